"""Studies of many models that nobody trained: shards from a template, by the thousand."""

import json
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pandas as pd

from gentheory.study.files import write_json
from gentheory.study.store import FORMAT, TABLES, Store

MEASURES = ("tic.exact", "tic.diagonal", "norms.parameters", "norms.distance")
_ID = "0123456789abcdef"


def commit(store: Store, shards: Iterable[str] | None = None) -> None:
    """Commit these shards, or all that are planned, with rows that tell where they come from."""
    made: dict[int, dict[str, bytes]] = {}
    for shard in store.sizes if shards is None else shards:
        count = store.sizes[shard]
        if count not in made:
            made[count] = _template(store.path.parent, count)
        folder = store.path / "shards" / shard
        folder.mkdir(parents=True)
        sizes: dict[str, int] = {}
        for name, content in made[count].items():
            # Names have sixteen letters, so that the file stays the same but for them.
            data = content.replace(_ID[2:].encode(), shard[2:].encode())
            sizes[name] = (folder / name).write_bytes(data)
        (folder / "shard.json").write_text(json.dumps({"sizes": sizes}))


def _template(folder: Path, count: int) -> dict[str, bytes]:
    models = [f"{m:02d}{_ID[2:]}" for m in range(count)]
    widths = [("a", 2), ("b", 2), ("c", 2)]
    rows: dict[str, list[dict[str, object]]] = {
        "models": [
            {"model": id, "shard": _ID, "position": m, "architecture": widths[m % 3][0], "gap": m}
            for m, id in enumerate(models)
        ],
        "measures": [
            {"model": id, "measure": name, "value": 0.5 * m, "status": "ok"}
            for m, id in enumerate(models)
            for name in MEASURES
        ],
        "curves": [{"model": id, "epoch": e, "train_loss": 1.0} for id in models for e in range(3)],
        "costs": [{"model": id, "what": "training", "seconds": 0.1} for id in models],
    }
    return {f"{name}.parquet": _plain(folder / "template", rows[name]) for name in TABLES}


def _plain(file: Path, rows: list[dict[str, object]]) -> bytes:
    """The rows as Parquet without compression, in which names can be replaced."""
    frame = pd.DataFrame(rows)
    with duckdb.connect() as connection:
        connection.from_df(frame).write_parquet(str(file), compression="uncompressed")
    content = file.read_bytes()
    file.unlink()
    return content


def planned(path: Path, models: int, stack: int = 16) -> Store:
    """The folder of a study of so many models, without its plan: the shards have made-up names."""
    sizes = {f"{n:016x}": min(stack, models - n * stack) for n in range(-(-models // stack))}
    path.mkdir(parents=True)
    record = {"format": FORMAT, "study": {"name": "synthetic"}, "shards": sizes}
    write_json(path / "study.json", record)
    return Store.open(path)
