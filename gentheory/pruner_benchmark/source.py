"""Where learning curves come from."""

from pathlib import Path

from gentheory.pruner_benchmark.curves import Curves
from gentheory.pruner_benchmark.table import curves
from gentheory.study.store import Store


def read(path: Path) -> Curves:
    """The curves of a study's folder, or of a Parquet file with the columns of `Curves`."""
    return curves(Store.open(path)) if path.is_dir() else Curves.read(path)
