"""The command line. Heavy imports wait until a command runs, so that `--help` answers at once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Generalization measures of trained PyTorch models, and studies that test them.",
)

Folder = Annotated[Path, typer.Argument(help="Folder of a study, as `gentheory run` printed it.")]
Stored = Annotated[
    str | None, typer.Argument(help="FILE.safetensors, or FILE@N for model N of a stack.")
]
Model = Annotated[str | None, typer.Option(help="Your model: pkg.mod:factory.")]
Weights = Annotated[Path | None, typer.Option(help="Its state dict.")]
Data = Annotated[str | None, typer.Option(help="Your data: pkg.mod:dataset.")]
LossName = Annotated[
    str | None, typer.Option("--loss", help="cross_entropy, the default; mse; or pkg.mod:function.")
]
WeightDecay = Annotated[
    float | None, typer.Option(help="That your model was trained with; 0 unless given.")
]
Initial = Annotated[Path | None, typer.Option(help="Your model's state dict before training.")]
TrainingTime = Annotated[
    float | None, typer.Option(help="Σ learning rate / (1 - momentum) over your model's steps.")
]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]
Seed = Annotated[int, typer.Option(help="Of the random probes.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write a page here.")]


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
) -> None:
    """Train and measure the models of a study that are not done yet."""
    from gentheory.progress import watch
    from gentheory.study import runner, spec
    from gentheory.study.engine import Engine
    from gentheory.study.store import Store

    Engine(engine, workers).check(time_limit)
    wanted = spec.read(study)
    store = Store.create(out or Path("runs") / wanted.name, wanted)
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
    typer.echo(f"{counts.done} of {counts.planned} models done in {store.path}")
    for line in _given_up(store):
        typer.echo(line, err=True)
    for shard, reason in store.failures().items():
        typer.echo(f"failed: shard {shard}: {reason}", err=True)
    if counts.done < counts.planned:
        typer.echo("The same command tries the failed shards again.", err=True)
        raise typer.Exit(1)


@app.command()
def status(folder: Folder) -> None:
    """Tell what of a study is done, running, waiting and failed, and why."""
    from gentheory.study import runner
    from gentheory.study.store import Store

    store = Store.open(folder)
    counts = runner.count(store)
    typer.echo(f"{store.study.name}: {counts.planned} models in {len(store.sizes)} shards")
    for label in ("done", "running", "waiting", "failed"):
        typer.echo(f"  {label:8}{getattr(counts, label):7}")
    flying = [item for item in store.inflight() if item.alive or not store.is_done(item.shard)]
    for item in flying:
        state = "running" if item.alive else "stopped before its end, will be done again"
        where = f"process {item.owner.get('pid')} on {item.owner.get('host')}"
        typer.echo(f"shard {item.shard}: {state} ({where})")
    again = {item.shard for item in flying if item.alive}
    for shard, reason in store.failures().items():
        if shard not in again:
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
def measures() -> None:
    """List every measure, one line each: its name, its formula and what it costs."""
    from gentheory.measures import describe, names

    width = max(map(len, names()))
    for name in names():
        described = describe(name)
        typer.echo(f"{name:{width}}  {described.formula}  [{described.cost}]")


@app.command()
def measure(
    checkpoint: Stored = None,
    names: Annotated[
        list[str], typer.Option("--measure", "-m", help="A measure, a family, or cheap; repeat.")
    ] = [],  # noqa: B006
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    loss: LossName = None,
    weight_decay: WeightDecay = None,
    initial: Initial = None,
    training_time: TrainingTime = None,
    option: Annotated[
        list[str], typer.Option("--option", "-o", help="MEASURE.OPTION=VALUE; repeat.")
    ] = [],  # noqa: B006
    dtype: Dtype = "float64",
    seed: Seed = 0,
    json_file: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Measure a checkpoint of a study, or a model of one's own."""
    from gentheory import measures as families
    from gentheory.errors import InputError
    from gentheory.own_model import OwnModel, check_given, subject_of
    from gentheory.progress import measuring, show

    if not names:
        raise InputError("-m", "no measure", "at least one", "see `gentheory measures`")
    own = OwnModel(model, weights, data, loss, weight_decay, initial, training_time)
    check_given("gentheory measure", checkpoint, own)
    _check_files(json_file, html)
    names = families.expanded(names)
    for name in names:
        families.find(name)
    subject = subject_of(checkpoint, own, dtype)
    with measuring(names) as progress:
        results = families.measure(
            subject, names, seed=seed, options=_options(option), progress=progress
        )
    show(results)
    _write(json_file, lambda: results.to_json() + "\n")
    _write(html, lambda: _page(subject, results, seed))


@app.command()
def diagnose(
    checkpoint: Stored = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    loss: LossName = None,
    weight_decay: WeightDecay = None,
    initial: Initial = None,
    training_time: TrainingTime = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(help="Of your own, by python -m gentheory.trust; the package's unless given."),
    ] = None,
    dtype: Dtype = "float64",
    seed: Seed = 0,
    json_file: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Tell whether TIC can be trusted for a checkpoint, or for a model of one's own."""
    from gentheory import trust
    from gentheory.own_model import OwnModel, check_given, subject_of
    from gentheory.progress import measuring, show_frame
    from gentheory.trust.indicators import names_of

    own = OwnModel(model, weights, data, loss, weight_decay, initial, training_time)
    check_given("gentheory diagnose", checkpoint, own)
    _check_files(json_file, html)
    known = trust.read(thresholds)
    subject = subject_of(checkpoint, own, dtype)
    with measuring(names_of(subject)[1]) as progress:
        found = trust.diagnose(subject, thresholds=known, seed=seed, progress=progress)
    frame = found.frame()
    show_frame(frame)
    _write(json_file, lambda: found.to_json() + "\n")
    _write(html, lambda: _page(subject, found.results, seed, frame))


def _check_files(json_file: Path | None, html: Path | None) -> None:
    """Before anything is computed."""
    from gentheory.errors import InputError

    for flag, file in (("--json", json_file), ("--html", html)):
        if file is not None and not file.parent.is_dir():
            raise InputError(flag, str(file), "a file in an existing folder", "make it first")


def _write(file: Path | None, text: Callable[[], str]) -> None:
    from gentheory.study.store import full_disk

    if file is not None:
        with full_disk(file):
            file.write_text(text(), encoding="utf-8")


def _page(subject: Any, results: Any, seed: int, verdict: Any = None) -> str:
    from gentheory.report.measured import render_results

    risk = subject.risk
    about = {
        "model": type(risk.module).__name__,
        "trainable parameters": risk.num_params,
        "examples": risk.num_examples,
        "loss": risk.loss.name,
        "weight decay": risk.weight_decay,
        "dtype": str(risk.dtype).removeprefix("torch."),
        "seed": seed,
        "command": " ".join(["gentheory", *sys.argv[1:]]),
    }
    return render_results(results, about, verdict)


def _options(given: list[str]) -> dict[str, dict[str, Any]]:
    """MEASURE.OPTION=VALUE, the value as JSON where it is, as text otherwise."""
    from gentheory.errors import InputError

    options: dict[str, dict[str, Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        measure_name, dot, key = name.rpartition(".")
        if not (equals and dot):
            raise InputError(
                f"-o {text}", "another form", "MEASURE.OPTION=VALUE", "-o tic.exact.damping=1e-2"
            )
        try:
            parsed: Any = json.loads(value)
        except ValueError:
            parsed = value
        options.setdefault(measure_name, {})[key] = parsed
    return options
