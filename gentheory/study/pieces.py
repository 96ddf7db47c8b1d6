"""Pieces of a shard, stacks of fewer models, joined to the one shard that was planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from gentheory import checkpoint
from gentheory.estimate import Estimate
from gentheory.measures import table_row
from gentheory.study.plan import Shard
from gentheory.study.shard import untrained_row
from gentheory.study.store import Store


@dataclass(frozen=True)
class Piece:
    """A stack that is committed beside the shards, or a single model that was given up."""

    stack: Shard
    reason: str = ""
    """Why its one model was given up; empty for a stack that is committed."""

    @property
    def model(self) -> str:
        """Its first model, by name."""
        return self.stack.points[0].id


def join(store: Store, shard: Shard, pieces: Sequence[Piece]) -> None:
    """Commit the shard out of all its pieces, of which one at least must be committed.

    A model that was given up has the outcome `failed`, no step, no loss, every measure `failed`
    with the reason, and nan for weights. The store notes which models these are.
    """
    places = {point.id: place for place, point in enumerate(shard.points)}
    ordered = sorted(pieces, key=lambda piece: places[piece.model])
    home = store.pieces(shard.id).path / "shards"
    # There is no such folder for a model that was given up.
    names = {file.name for piece in ordered for file in home.glob(f"{piece.stack.id}/*.*")}
    with store.writing(shard.id) as folder:
        for name in sorted(names):
            parts = [(piece, home / piece.stack.id / name) for piece in ordered]
            if name.endswith(".parquet"):
                _join_tables(folder / name, shard, parts, places)
            elif name.endswith(".safetensors"):
                weights = [file if file.exists() else _records(piece) for piece, file in parts]
                checkpoint.join(folder / name, weights)
    for piece in ordered:
        if piece.reason:
            store.note_given_up(shard.id, piece.model, piece.reason)


def _join_tables(
    target: Path,
    shard: Shard,
    parts: Sequence[tuple[Piece, Path]],
    places: Mapping[str, int],
) -> None:
    """One table after the other, with rows of the same columns for models that were given up."""
    like = str(next(file for _, file in parts if file.exists()))
    of_models = target.stem == "models"
    placed = "* replace (? as shard, position + ? as position)" if of_models else "*"
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        found = connection.execute("select * from read_parquet(?)", [like])
        columns = [column[0] for column in found.description or ()]
        measures = _measures(found.df()) if target.stem == "measures" else []
        connection.execute("create table joined as from read_parquet(?) limit 0", [like])
        for piece, file in parts:
            place = [shard.id, places[piece.model]] if of_models else []
            if file.exists():
                query = f"insert into joined by name select {placed} from read_parquet(?)"
                connection.execute(query, [*place, str(file)])
                continue
            rows = [_model_row(piece)] if of_models else _measure_rows(piece, measures)
            if rows:
                frame = pd.DataFrame([{c: row.get(c) for c in columns} for row in rows])
                connection.register("frame", frame)
                connection.execute(f"insert into joined by name select {placed} from frame", place)
        quoted = str(target).replace("'", "''")
        connection.execute(f"copy joined to '{quoted}' (format parquet)")


def _measures(rows: pd.DataFrame) -> list[str]:
    """The measures of one model; every other has the same."""
    return [] if rows.empty else list(rows.loc[rows["model"] == rows["model"].iloc[0], "measure"])


def _model_row(piece: Piece) -> dict[str, Any]:
    return {**untrained_row(piece.stack, 0), **_UNTRAINED, "n_test": 0}


def _measure_rows(piece: Piece, measures: Sequence[str]) -> list[dict[str, Any]]:
    failed = Estimate.missing("failed", f"the model was given up: {piece.reason}")
    return [{"model": piece.model, **table_row(name, failed)} for name in measures]


_UNTRAINED = {"outcome": "failed", "steps": 0, "training_time": 0.0}


def _records(piece: Piece) -> list[dict[str, Any]]:
    """What a checkpoint's file says of models without weights."""
    return [
        {
            "id": point.id,
            "architecture": point.architecture,
            "model": dict(point.model),
            "data": dict(point.data),
            "loss": point.settings["loss"],
            "weight_decay": point.settings["weight_decay"],
            "settings": dict(point.settings),
            **_UNTRAINED,
            "reason": piece.reason,
        }
        for point in piece.stack.points
    ]
