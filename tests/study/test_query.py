import json
import re
from pathlib import Path

import duckdb
import pytest
import synthetic
import tiny

from gentheory.errors import InputError
from gentheory.study import query
from gentheory.study.query import ask
from gentheory.study.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two shards of two models each."""
    found = synthetic.planned(tmp_path_factory.mktemp("query") / "it's", models=4, stack=2)
    synthetic.commit(found)
    return found


def test_a_grouped_question_over_two_tables(store: Store) -> None:
    sql = (
        "with m as (select * from MODELS) select measure, count(*) as n, sum(m.gap) as total "
        "from measures join m using (model) group by all order by measure;"
    )
    found = ask(store, sql)
    assert found.columns == ("measure", "n", "total")
    assert found.rows == tuple((name, 4, 2) for name in sorted(synthetic.MEASURES))
    assert not found.more


def test_only_the_first_rows_are_fetched(store: Store) -> None:
    found = ask(store, "select epoch from curves", most=5)
    assert (len(found.rows), found.more) == (5, True)
    assert not ask(store, "select epoch from curves", most=12).more


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selct", r"Parser Error: syntax error at or near \"selct\""),
        ("select gapp from models", r"Binder Error: .*\"gapp\" not found"),
        ("select * from model", r"Table with name model does not exist"),
        ("select regexp_matches('a', '(') from models", "missing \\)"),
        ("", "found 0 statements, expected one select over models, measures, curves, costs"),
        ("select 1; select 2", "found 2 statements"),
        ("copy models to 'x.csv'", "found a statement that is no select"),
        ("create table x as from models", "found a statement that is no select"),
        ("set enable_external_access = true", "found a statement that is no select"),
        ("from read_csv('/etc/hostname')", "Permission Error"),
        ("from '/etc/hostname.csv'", "Permission Error"),
        ("from store", "Table with name store does not exist"),
    ],
)
def test_a_question_that_cannot_be_answered(store: Store, sql: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)sql: .*{message}"):
        ask(store, sql)


def test_a_study_without_a_finished_shard(tmp_path: Path) -> None:
    empty = synthetic.planned(tmp_path / "empty", models=4)
    with pytest.raises(InputError, match="found no finished shard"):
        ask(empty, "select 1")
    with pytest.raises(InputError, match="found no finished shard"):
        query.listing(empty)


def test_the_command_line_prints_a_table_whole_where_no_terminal_cuts_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "select repeat('x', 300) as [a], null as n, 1 / 3 as third from models limit 1"
    sql = sql.replace("[a]", '"[a]"')
    ended = tiny.main(capsys, "query", store.path, sql)
    assert (ended.code, ended.err) == (0, "")
    head, row = ended.out.splitlines()
    assert head.split() == ["[a]", "n", "third"]
    assert row.split() == ["x" * 300, "0.333333"]


def test_without_sql_the_columns_are_listed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = tiny.main(capsys, "query", store.path)
    rows = [line.split() for line in ended.out.splitlines()]
    assert rows[0] == ["table", "column", "type"]
    assert ["models", "model", "varchar"] in rows
    assert ["curves", "train_loss", "double"] in rows
    assert {row[0] for row in rows[1:]} == {"models", "measures", "curves", "costs"}


def test_all_rows_are_written_to_files(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "select model, gap, 'nan'::double as x from models order by model -- by name"
    files = {kind: tmp_path / f"it's.{kind}" for kind in query.FORMATS}
    flags = [text for kind, file in files.items() for text in (f"--{kind}", str(file))]
    ended = tiny.main(capsys, "query", store.path, sql, *flags)
    assert (ended.code, ended.err) == (0, "")
    expected = [row[:2] for row in ask(store, sql).rows]
    assert len(expected) == 4
    for kind in ("csv", "parquet"):
        found = duckdb.sql(
            f"select model, gap from '{str(files[kind]).replace(chr(39), chr(39) * 2)}'"
        )
        assert [(str(model).zfill(16), gap) for model, gap in found.fetchall()] == expected
    rows = json.loads(files["json"].read_text(), parse_constant=pytest.fail)
    assert [(row["model"], row["gap"]) for row in rows] == expected
    assert {row["x"] for row in rows} == {None}
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_stays_as_it_was_when_the_question_is_wrong(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("mine")
    with pytest.raises(InputError, match="Binder Error"):
        query.save(store, "select nothing from models", {"csv": file})
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--csv", "nowhere/a.csv", "select 1"),
            r"--csv: found nowhere/a\.csv, expected a file in",
        ),
        (("--json", "a.json"), "sql: found nothing, expected a select whose rows to write; give"),
    ],
)
def test_arguments_that_do_not_go_together(
    store: Store, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.refused(tiny.main(capsys, "query", store.path, *arguments), message)


def test_looking_at_a_study_loads_no_torch(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from gentheory.study import query, standing, store\n"
        "found = store.Store.open(Path(sys.argv[1]))\n"
        "query.ask(found, 'select count(*) from models'); standing.standing(found)\n"
        "print(sorted({'torch', 'pandas', 'sklearn', 'distributed'} & set(sys.modules)))"
    )
    with tiny.python(code, store.path) as running:
        out, err = running.communicate(timeout=60)
    assert out.strip() == "[]", err


def test_numbers_are_those_of_a_study_that_was_run(tmp_path: Path) -> None:
    real = tiny.done(tmp_path / "tiny", tiny.study())
    sql = "select model, gap from models where learning_rate = 0.1 order by seed"
    frame = real.table("models")
    frame = frame[frame["learning_rate"] == 0.1].sort_values("seed")
    assert [row[0] for row in ask(real, sql).rows] == frame["model"].tolist()
    assert [row[1] for row in ask(real, sql).rows] == frame["gap"].tolist()
    assert re.search("tic.exact", str(ask(real, "select distinct measure from measures").rows))
