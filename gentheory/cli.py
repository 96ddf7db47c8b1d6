"""The command line. Heavy imports wait until a command runs, so that `--help` answers at once."""

import importlib
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
    engine: Annotated[str, typer.Option(help="serial or local.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores.")] = None,
) -> None:
    """Train and measure the models of a study that are not done yet."""
    from gentheory.progress import watch
    from gentheory.study import runner, spec
    from gentheory.study.engine import check
    from gentheory.study.store import Store

    check(engine)
    wanted = spec.read(study)
    store = Store.create(out or Path("runs") / wanted.name, wanted)
    command = " ".join(["gentheory", *sys.argv[1:]])
    try:
        with watch(store) as on_shard:
            counts = runner.run(
                store, engine_name=engine, workers=workers, command=command, on_shard=on_shard
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
    checkpoint: Annotated[
        str | None, typer.Argument(help="FILE.safetensors, or FILE@N for model N of a stack.")
    ] = None,
    names: Annotated[
        list[str], typer.Option("--measure", "-m", help="A measure, a family, or cheap; repeat.")
    ] = [],  # noqa: B006
    model: Annotated[str | None, typer.Option(help="Your model: pkg.mod:factory.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its state dict.")] = None,
    data: Annotated[str | None, typer.Option(help="Your data: pkg.mod:dataset.")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="cross_entropy, the default; mse; or pkg.mod:function."),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="That your model was trained with; 0 unless given.")
    ] = None,
    option: Annotated[
        list[str], typer.Option("--option", "-o", help="MEASURE.OPTION=VALUE; repeat.")
    ] = [],  # noqa: B006
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
    seed: Annotated[int, typer.Option(help="Of the random probes.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page here.")] = None,
) -> None:
    """Measure a checkpoint of a study, or a model of one's own."""
    from gentheory import measures as families
    from gentheory.errors import InputError
    from gentheory.progress import measuring, show

    if not names:
        raise InputError("-m", "no measure", "at least one", "see `gentheory measures`")
    if (checkpoint is None) == (model is None):
        raise InputError(
            "gentheory measure",
            "both a checkpoint and --model" if model else "neither a checkpoint nor --model",
            "one of the two",
            "give FILE.safetensors, or --model with --data",
        )
    for flag, file in (("--json", json_file), ("--html", html)):
        if file is not None and not file.parent.is_dir():
            raise InputError(flag, str(file), "a file in an existing folder", "make it first")
    names = families.expanded(names)
    for name in names:
        families.find(name)
    if model is not None:
        subject = _own_model(model, weights, data, loss, weight_decay, dtype)
    else:
        held = {"--weights": weights, "--loss": loss, "--weight-decay": weight_decay}
        subject = _stored(str(checkpoint), data, dtype, held)
    with measuring(names) as progress:
        results = families.measure(
            subject, names, seed=seed, options=_options(option), progress=progress
        )
    show(results)
    _write(json_file, lambda: results.to_json() + "\n")
    _write(html, lambda: _page(subject, results, seed))


def _write(file: Path | None, text: Callable[[], str]) -> None:
    from gentheory.study.store import full_disk

    if file is not None:
        with full_disk(file):
            file.write_text(text(), encoding="utf-8")


def _page(subject: Any, results: Any, seed: int) -> str:
    from gentheory.report.measured import render_results

    risk = getattr(subject, "risk", subject)
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
    return render_results(results, about)


def _stored(address: str, data: str | None, dtype: str, held: dict[str, Any]) -> Any:
    """The checkpoint at FILE or FILE@N; `held` is what it holds and nobody may give again."""
    from gentheory import checkpoint
    from gentheory.errors import InputError

    for flag, value in held.items():
        if value is not None:
            raise InputError(
                flag, str(value), "nothing, as a checkpoint holds its own", "leave it out"
            )
    path, at, index = address.rpartition("@")
    if at and not index.isdecimal():
        raise InputError(address, f"index {index!r}", "a number after the @", "give FILE@0")
    other = None if data is None else _named(data, "--data")
    found = checkpoint.load(
        path if at else address, int(index) if at else 0, data=other, dtype=_dtype(dtype)
    )
    found.risk.check()
    return found


def _own_model(
    model: str,
    weights: Path | None,
    data: str | None,
    loss: str | None,
    weight_decay: float | None,
    dtype: str,
) -> Any:
    from torch import nn

    from gentheory.checkpoint import load_weights
    from gentheory.errors import InputError
    from gentheory.risk import EmpiricalRisk

    module = _named(model, "--model")
    if not isinstance(module, nn.Module):
        raise InputError(
            f"--model {model}", type(module).__name__, "a torch.nn.Module", "return the model"
        )
    if data is None:
        raise InputError("--data", "nothing", "pkg.mod:dataset", "name the training data")
    if weights is not None:
        load_weights(module, weights)
    criterion = _named(loss, "--loss", call=False) if loss and ":" in loss else loss
    risk = EmpiricalRisk(
        module,
        criterion or "cross_entropy",
        _named(data, "--data"),
        weight_decay=weight_decay or 0.0,
        dtype=_dtype(dtype),
    )
    risk.check()
    return risk


def _named(address: str, flag: str, *, call: bool = True) -> Any:
    """The object at pkg.mod:attribute; a function or class is called for what it returns."""
    from gentheory.errors import InputError

    module, _, attribute = address.partition(":")
    if not module or not attribute:
        raise InputError(f"{flag} {address}", "half an address", "pkg.mod:name", "write both parts")
    # A script of the user's lies in the folder where the command was typed.
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{flag} {address}", str(error), "pkg.mod:name", "correct it") from None
    finally:
        sys.path.remove("")
    from torch import nn

    return found() if call and callable(found) and not isinstance(found, nn.Module) else found


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


def _dtype(name: str) -> Any:
    import torch

    from gentheory.errors import InputError

    if name not in ("float32", "float64"):
        raise InputError("--dtype", repr(name), "float32 or float64", "choose one")
    return getattr(torch, name)
