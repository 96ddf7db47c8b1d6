"""Questions in SQL to the tables of a study."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from gentheory.errors import InputError
from gentheory.study import gather
from gentheory.study.files import full_disk
from gentheory.study.store import TABLES, TABLES_ALONG, Store

VIEWS = (*TABLES, *TABLES_ALONG)
"""What a question may name, of which a study has those that its shards have."""
FORMATS = {"csv": "format csv, header", "json": "format json, array", "parquet": "format parquet"}


@dataclass(frozen=True)
class Rows:
    """An answer, or its beginning."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """Whether there are rows beyond these."""


def ask(store: Store, sql: str, *, most: int = 1000) -> Rows:
    """The first rows of the answer to one `select` over `VIEWS`.

    The study's files can be read and nothing else: no other file, no network, no writing.
    Raises `InputError` with DuckDB's own message for a question that it cannot answer.
    """

    def answer(connection: duckdb.DuckDBPyConnection) -> Rows:
        found = connection.execute(sql)
        columns = tuple(column[0] for column in found.description or ())
        rows = found.fetchmany(most + 1)
        return Rows(columns, tuple(rows[:most]), len(rows) > most)

    return _asked(store, sql, answer)


def save(store: Store, sql: str, files: Mapping[str, Path]) -> None:
    """Write the whole answer to a file for each of these `FORMATS`. Raises as `ask` does."""
    for kind, file in files.items():
        aside = file.with_name(f"{file.name}.tmp")
        target = f"{_quoted(aside)} ({FORMATS[kind]})"
        try:
            with full_disk(file):
                _asked(store, sql, partial(_copy, sql.strip().rstrip(";"), kind, target), aside)
                aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


def _copy(sql: str, kind: str, target: str, connection: duckdb.DuckDBPyConnection) -> None:
    if kind == "json":  # which knows no nan
        found = connection.execute(f"describe {sql}").fetchall()
        floats = [f'"{name}"' for name, column, *_ in found if column in ("DOUBLE", "FLOAT")]
        known = ", ".join(f"if(isfinite({name}), {name}, null) as {name}" for name in floats)
        sql = f"select * {f'replace ({known})' if known else ''} from ({sql}\n)"
    connection.execute(f"copy ({sql}\n) to {target}")


def listing(store: Store) -> Rows:
    """Every table with its columns and their SQL types; opens one shard."""
    first = next((shard for shard in store.sizes if store.is_done(shard)), None)
    if first is None:
        raise gather.nothing(store.path)
    found: list[tuple[str, str, str]] = []
    with duckdb.connect() as connection:
        for name in VIEWS:
            file = store.path / "shards" / first / f"{name}.parquet"
            if not file.exists():
                continue
            table = connection.read_parquet(str(file))
            types = zip(table.columns, table.types, strict=True)
            found += [(name, column, str(kind).lower()) for column, kind in types]
    return Rows(("table", "column", "type"), tuple(found), False)


def _asked(store: Store, sql: str, act: Any, writable: Path | None = None) -> Any:
    names = _tables_of(sql)

    def read(files: Mapping[str, Sequence[str]]) -> Any:
        with duckdb.connect() as connection:
            for name, own in files.items():
                if not own:
                    continue
                listed = ", ".join(map(_quoted, own))
                connection.execute(f"create view {name} as from read_parquet([{listed}])")
            _confine(connection, store.path, writable)
            return act(connection)

    try:
        return gather.reading(store.path, names, store.sizes, store.commits(), read)
    except duckdb.Error as error:
        raise _refusal(str(error)) from error


def _tables_of(sql: str) -> list[str]:
    """The tables that a question may be about. Raises `InputError` unless it is a `select`."""
    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _refusal(str(error)) from error
    if len(statements) != 1:
        raise _refusal(f"{len(statements)} statements")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise _refusal("a statement that is no select")
    return [name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]


def _confine(connection: duckdb.DuckDBPyConnection, folder: Path, writable: Path | None) -> None:
    """From here on the connection reaches the study's tables, and one file to write."""
    within = ", ".join(_quoted(folder / part) for part in ("shards", "cache"))
    connection.execute(f"set allowed_directories = [{within}]")
    if writable is not None:
        connection.execute(f"set allowed_paths = [{_quoted(writable)}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def _quoted(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _refusal(message: str) -> InputError:
    return InputError(
        "sql",
        message.rstrip("."),
        f"one select over {', '.join(TABLES)}",
        "without SQL, `gentheory query DIR` lists the columns",
    )
