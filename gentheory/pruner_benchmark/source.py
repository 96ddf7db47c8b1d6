"""Where learning curves come from."""

from pathlib import Path

from gentheory.pruner_benchmark.curves import Curves


def read(path: Path) -> Curves:
    """The curves of a study's folder, or of a Parquet file with the columns of `Curves`."""
    if not path.is_dir():
        return Curves.read(path)
    from gentheory.pruner_benchmark.table import curves
    from gentheory.study.store import Store

    return curves(Store.open(path))
