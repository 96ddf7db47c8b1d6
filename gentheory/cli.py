"""The command line. Heavy imports wait until a command runs, so that `--help` answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gentheory.asked import Measured, asking, check_folder
from gentheory.plot_commands import plot

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Generalization measures of trained PyTorch models, and studies that test them.",
)

app.add_typer(plot, name="plot")

Folder = Annotated[Path, typer.Argument(help="Folder of a study, as `gentheory run` printed it.")]


def main() -> None:
    """Run the command line: bad input ends with one sentence and status 2, Ctrl-C with 130."""
    from gentheory.errors import InputError

    try:
        app()
    except InputError as error:
        _refuse(error)
    except OSError as error:
        if error.filename is None:
            raise
        cure = "check the path and who may write there"
        _refuse(InputError(str(error.filename), str(error.strerror), "a usable path", cure))


def _refuse(error: ValueError) -> NoReturn:
    typer.echo(f"gentheory: {error}", err=True)
    sys.exit(2)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="A study in TOML.")],
    out: Annotated[Path | None, typer.Option(help="Folder; runs/NAME unless given.")] = None,
    engine: Annotated[
        str, typer.Option(help="serial, local, or a Dask scheduler: tcp://host:port, tls://…")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core, or one a GPU.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Attempts after the first at a stack that fails.")
    ] = 2,
    time_limit: Annotated[
        float | None, typer.Option(min=1.0, help="Seconds for a stack; then its process is ended.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only predict time and disk, from a short trial.")
    ] = False,
) -> None:
    """Train and measure the models of a study that are not done yet."""
    from gentheory.progress import watch
    from gentheory.study import runner, spec
    from gentheory.study.engine import Engine
    from gentheory.study.store import Store

    crew = Engine(engine, workers)
    crew.check(time_limit)
    wanted = spec.read(study)
    folder = out or Path("runs") / wanted.name
    if dry_run:
        _foretell(wanted, folder, crew.processes(wanted.threads) or 1)
        return
    store = Store.create(folder, wanted)
    command = " ".join(["gentheory", *sys.argv[1:]])
    try:
        with watch(store) as on_shard:
            counts = runner.run(
                store,
                engine_name=engine,
                workers=workers,
                retries=retries,
                time_limit=time_limit,
                command=command,
                on_shard=on_shard,
                tell=lambda line: typer.echo(line, err=True),
            )
    except KeyboardInterrupt:
        done = runner.count(store)
        typer.echo(
            f"Stopped: {done.done} of {done.planned} models are done and kept in {store.path}; "
            "the same command goes on from there.",
            err=True,
        )
        raise typer.Exit(130) from None
    _tell_of_end(store, counts)


def _tell_of_end(store: Any, counts: Any) -> None:
    """What a run has done and what it could not; status 1 where something is left."""
    typer.echo(f"{counts.done} of {counts.planned} models done in {store.path}")
    for line in _given_up(store):
        typer.echo(line, err=True)
    for shard, reason in store.failures().items():
        typer.echo(f"failed: shard {shard}: {reason}", err=True)
    if counts.done < counts.planned:
        typer.echo("The same command tries the failed shards again.", err=True)
        raise typer.Exit(1)


def _foretell(study: Any, folder: Path, workers: int) -> None:
    """What a run would do that is not done yet, and what it would take; writes nothing."""
    from gentheory.progress import measuring
    from gentheory.rows import show_prediction
    from gentheory.study import plan, trial
    from gentheory.study.catalogue import commit

    shards = list(plan.each_shard(study))
    missing = [s for s in shards if commit(f"{folder}/shards/{s.id}") is None]
    found = trial.kinds(missing)
    with measuring([kind.point.architecture for kind in found]) as progress:
        foretold = trial.predict(found, progress=progress)
    show_prediction(study.name, foretold, workers, len(shards))


@app.command()
def status(folder: Folder) -> None:
    """Tell what of a study is done, running, waiting and failed, and why."""
    from gentheory.study.standing import standing
    from gentheory.study.store import Store

    store = Store.open(folder)
    found = standing(store)
    typer.echo(f"{store.name}: {found.counts.planned} models in {len(store.sizes)} shards")
    for label in ("done", "running", "waiting", "failed"):
        typer.echo(f"  {label:8}{getattr(found.counts, label):7}")
    if found.seconds_left is not None:
        typer.echo(f"{found.rate:.3g} models a second, about {found.seconds_left:.0f} s left")
    for item in found.flying:
        state = "running" if item.alive else "stopped before its end, will be done again"
        where = f"process {item.owner.get('pid')} on {item.owner.get('host')}"
        typer.echo(f"shard {item.shard}: {state} ({where})")
    for shard, reason in found.failures.items():
        typer.echo(f"shard {shard}: failed: {reason}")
    for shard, notes in store.attempts().items():
        if not store.is_done(shard):
            for attempt in notes["attempts"]:
                models = f"{len(attempt['models'])} model" + "s" * (len(attempt["models"]) > 1)
                typer.echo(f"shard {shard}: an attempt at {models}: {attempt['reason']}")
    for line in _given_up(store):
        typer.echo(line)


def _given_up(store: Any) -> list[str]:
    """A line for each model that a committed shard had to do without."""
    return [
        f"model {model['model']} of shard {shard}: given up: {model['reason']}"
        for shard, notes in store.attempts().items()
        if store.is_done(shard)
        for model in notes["given_up"]
    ]


@app.command()
def query(
    folder: Folder,
    sql: Annotated[str | None, typer.Argument(help="One select; all columns unless given.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all rows here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write all rows here.")] = None,
) -> None:
    """Ask the tables of a study in SQL (DuckDB): models, measures, curves, costs."""
    from gentheory.errors import InputError
    from gentheory.rows import show_rows
    from gentheory.study.query import ask, listing, save
    from gentheory.study.store import Store

    named = {"csv": csv, "json": json_file, "parquet": parquet}
    files = {kind: file for kind, file in named.items() if file is not None}
    for kind, file in files.items():
        check_folder(f"--{kind}", file)
    store = Store.open(folder)
    if sql is not None and files:
        save(store, sql, files)
    elif sql is not None:
        show_rows(ask(store, sql))
    elif files:
        raise InputError("sql", "nothing", "a select whose rows to write", "give one")
    else:
        show_rows(listing(store))


@app.command()
def report(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Folder; reports/NAME unless given.")] = None,
) -> None:
    """Write a study's report: one HTML page, figures and numbers."""
    from gentheory.report.page import write_report
    from gentheory.study.store import Store
    from gentheory.study.tables import read_tables

    tables = read_tables(Store.open(folder))
    written = write_report(tables, out or Path("reports") / tables.name)
    for number, finding in enumerate(written.findings, 1):
        typer.echo(f"{number}. {finding}")
    typer.echo(f"Report: {written.path}")


@app.command()
def bench_pruners(
    curves: Annotated[
        Path, typer.Argument(help="Folder of a study of learning curves, or their Parquet file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the page.")],
    orders: Annotated[int, typer.Option(min=2, help="Studies replayed of every kind.")] = 100,
    trials: Annotated[int, typer.Option(min=3, help="Configurations that a study draws.")] = 64,
    configs: Annotated[
        str, typer.Option(help="all, first-half or second-half, by a hash of their labels.")
    ] = "all",
    free_looks: Annotated[
        bool, typer.Option("--free-looks", help="Charge no look, to see what signals are worth.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core.")] = None,
    seed: Annotated[int, typer.Option(help="Of the orders and the resamples.")] = 0,
) -> None:
    """Replay every pruner of Optuna on learning curves, with every signal, and write the page."""
    from gentheory.progress import counting
    from gentheory.pruner_benchmark.benchmark import Design, bench
    from gentheory.pruner_benchmark.page import write_page
    from gentheory.pruner_benchmark.source import read
    from gentheory.study.provenance import cores

    found = read(curves).half(configs)
    design = Design(orders, trials, charged=not free_looks, seed=seed)
    with counting("replaying") as progress:
        outcome = bench(found, design, processes=workers or cores(), progress=progress)
    about = {"curves": curves.name, "configurations": configs}
    about["command"] = " ".join(["gentheory", *sys.argv[1:]])
    written = write_page(outcome, about, out)
    for number, finding in enumerate(written.findings, 1):
        typer.echo(f"{number}. {finding}")
    typer.echo(f"Report: {written.path}")


@app.command()
def measures() -> None:
    """List every measure, one line each: its name, its formula and what it costs."""
    from gentheory.measures import describe, names

    width = max(map(len, names()))
    for name in names():
        described = describe(name)
        typer.echo(f"{name:{width}}  {described.formula}  [{described.cost}]")


@app.command()
@asking
def measure(
    asked: Measured,
    names: Annotated[
        list[str], typer.Option("--measure", "-m", help="A measure, a family, or cheap; repeat.")
    ] = [],  # noqa: B006
    option: Annotated[
        list[str], typer.Option("--option", "-o", help="MEASURE.OPTION=VALUE; repeat.")
    ] = [],  # noqa: B006
) -> None:
    """Measure a checkpoint of a study, or a model of one's own."""
    from gentheory import measures as families
    from gentheory.errors import InputError
    from gentheory.own_model import options_of
    from gentheory.progress import measuring, show

    if not names:
        raise InputError("-m", "no measure", "at least one", "see `gentheory measures`")
    asked.check("measure")
    names = families.expanded(names)
    for name in names:
        families.find(name)
    subject = asked.load()
    with measuring(names) as progress:
        results = families.measure(
            subject, names, seed=asked.seed, options=options_of(option), progress=progress
        )
    show(results)
    asked.write(subject, results, results.to_json())


@app.command()
@asking
def diagnose(
    asked: Measured,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Of your own, by python -m gentheory.trust; the package's unless given."),
    ] = None,
) -> None:
    """Tell whether TIC can be trusted for a checkpoint, or for a model of one's own."""
    from gentheory import trust
    from gentheory.progress import measuring, show_frame
    from gentheory.trust.indicators import names_of

    asked.check("diagnose")
    known = trust.read(thresholds)
    subject = asked.load()
    with measuring(names_of(subject)[1]) as progress:
        found = trust.diagnose(subject, thresholds=known, seed=asked.seed, progress=progress)
    frame = found.frame()
    show_frame(frame)
    asked.write(subject, found.results, found.to_json(), frame)
