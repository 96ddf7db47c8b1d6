"""`gentheory plot KIND …`: the figures of one model, and those of a study.

Heavy imports wait until a command runs, as in the command line.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gentheory.asked import Asked, asking, check_folder, write_text

plot = typer.Typer(
    no_args_is_help=True, help="Draw a model's landscape, spectra, kernel or collapse, or a study."
)

Out = Annotated[
    list[Path],
    typer.Option("--out", help="FILE.pdf, .svg, .png, or .html for one page of all; repeat."),
]
MaxExamples = Annotated[
    int, typer.Option(min=2, help="Of more training examples a random subset is taken.")
]

_SUFFIXES = (".pdf", ".svg", ".png", ".html")


@plot.command()
@asking
def landscape(
    asked: Asked,
    out: Out = [],  # noqa: B006
    directions: Annotated[
        str,
        typer.Option(help="filter, layer, random, eigen, gradient, or trajectory: its components."),
    ] = "filter",
    points: Annotated[int, typer.Option(min=3, help="A side of the plane.")] = 51,
    reach: Annotated[float, typer.Option(help="How far along the directions.")] = 1.0,
    max_examples: MaxExamples = 1000,
    by_class: Annotated[bool, typer.Option("--by-class", help="A line a class, too.")] = False,
    batch_norm: Annotated[
        str, typer.Option(help="keep the running statistics, or reestimate them at each point.")
    ] = "keep",
    keep: Annotated[
        Path | None, typer.Option(help="A file from which the same command goes on when killed.")
    ] = None,
    surface: Annotated[
        bool, typer.Option("--surface", help="A surface to turn, in the .html page (5 MB more).")
    ] = False,
) -> None:
    """The loss along two directions and over their plane, with the way that training took."""
    from gentheory.errors import InputError
    from gentheory.figures.landscape import landscape as draw

    if surface and all(file.suffix != ".html" for file in out):
        raise InputError("--surface", "no page to put it in", "--out FILE.html", "give one more")
    if keep is not None:
        check_folder("--keep", keep)
    options = {
        "directions": directions,
        "points": points,
        "reach": reach,
        "max_examples": max_examples,
        "by_class": by_class,
        "batch_norm": batch_norm,
        "keep": keep,
    }
    _plot("landscape", asked, out, draw, options, stages=True, surfaces=surface)


@plot.command()
@asking
def density(
    asked: Asked,
    out: Out = [],  # noqa: B006
    num_probes: Annotated[int, typer.Option(min=2, help="Random probes.")] = 8,
    num_steps: Annotated[int, typer.Option(min=2, help="Of Lanczos, for each probe.")] = 60,
) -> None:
    """The spectral densities of the Hessian and of the GGN, with the largest eigenvalues."""
    from gentheory.figures.density import density as draw

    options = {"num_probes": num_probes, "num_steps": num_steps}
    _plot("density", asked, out, draw, options)


@plot.command()
@asking
def eigenvalues(
    asked: Asked,
    out: Out = [],  # noqa: B006
    k: Annotated[int, typer.Option("-k", min=1, help="How many of the largest.")] = 3,
) -> None:
    """The extreme eigenvalues along training."""
    from gentheory.figures.eigenvalues import eigenvalues as draw

    _plot(
        "eigenvalues",
        asked,
        out,
        lambda _, found, **given: draw(found, **given),
        {"k": k},
        stages=True,
    )


@plot.command()
@asking
def kernel(
    asked: Asked,
    out: Out = [],  # noqa: B006
    max_examples: MaxExamples = 1000,
) -> None:
    """The tangent kernel's eigenvalues, and how it moves along training."""
    from gentheory.figures.kernel import kernel as draw

    _plot("kernel", asked, out, draw, {"max_examples": max_examples}, stages=True)


@plot.command()
@asking
def collapse(
    asked: Asked,
    out: Out = [],  # noqa: B006
) -> None:
    """The class means beside a simplex frame, and neural collapse along training."""
    from gentheory.figures.collapse import collapse as draw

    _plot("collapse", asked, out, draw, {}, stages=True)


@plot.command()
@asking
def classes(
    asked: Asked,
    out: Out = [],  # noqa: B006
    curvature: Annotated[str, typer.Option(help="hessian or ggn.")] = "hessian",
) -> None:
    """Both ends of the curvature on each class's examples."""
    from gentheory.figures.classes import classes as draw

    _plot("classes", asked, out, draw, {"curvature": curvature})


@plot.command()
def correlations(
    folder: Annotated[Path, typer.Argument(help="Folder of a study, as `gentheory run` said.")],
    out: Out = [],  # noqa: B006
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
) -> None:
    """How all measures of a study, the gap and the losses correlate with one another."""
    from gentheory.report.correlated import correlations as draw
    from gentheory.study.store import Store
    from gentheory.study.tables import read_tables

    _check(out, json_file)
    tables = read_tables(Store.open(folder))
    _write(draw(tables), {"kind": "correlations", "subject": tables.name}, out, json_file)


def _plot(
    kind: str,
    asked: Asked,
    out: Sequence[Path],
    draw: Callable[..., list[Any]],
    options: dict[str, Any],
    *,
    stages: bool = False,
    surfaces: bool = False,
) -> None:
    """Load the model, draw it, write the files; with `stages` as it was along training, too."""
    from gentheory.progress import telling

    asked.check(f"plot {kind}")
    _check(out, asked.json_file)
    subject = asked.load()
    parts = [subject, _stages(asked, subject)] if stages else [subject]
    with telling(kind) as progress:
        drawings = draw(*parts, seed=asked.seed, progress=progress, **options)
    about = {
        "kind": kind,
        "subject": type(subject.risk.module).__name__,
        "at": asked.checkpoint or asked.model,
        "trainable parameters": subject.risk.num_params,
        "training examples": subject.risk.num_examples,
        "loss": subject.risk.loss.name,
        "seed": asked.seed,
    }
    _write(drawings, about, out, asked.json_file, surfaces=surfaces)


def _stages(asked: Asked, subject: Any) -> Any:
    from gentheory.figures.stages import kept, stages
    from gentheory.own_model import address_of, data_of, dtype_of

    if asked.checkpoint is None:
        return stages(subject)
    path, index = address_of(asked.checkpoint)
    given = {"data": data_of(asked.own), "dtype": dtype_of(asked.dtype)}
    return stages(subject, kept(path, index, subject, **given))


def _check(out: Sequence[Path], json_file: Path | None) -> None:
    """Raise `InputError` for files that cannot be written, before anything is computed."""
    from gentheory.errors import InputError

    wanted = ", ".join(_SUFFIXES)
    if not out and json_file is None:
        raise InputError("--out", "no file", f"one that ends in {wanted}", "--out figure.pdf")
    for file in out:
        check_folder("--out", file)
        if file.suffix not in _SUFFIXES:
            raise InputError(f"--out {file}", f"the suffix {file.suffix!r}", wanted, "rename it")
    if json_file is not None:
        check_folder("--json", json_file)


def _write(
    drawings: Sequence[Any],
    about: dict[str, Any],
    out: Sequence[Path],
    json_file: Path | None,
    *,
    surfaces: bool = False,
) -> None:
    from gentheory.report.drawn import numbers, render_drawings, save_drawings

    about = {**about, "command": " ".join(["gentheory", *sys.argv[1:]])}
    write_text(json_file, lambda: numbers(drawings))
    written = [json_file] if json_file is not None else []
    for file in out:
        if file.suffix == ".html":
            write_text(file, lambda: render_drawings(drawings, about, surfaces=surfaces))
            written.append(file)
        else:
            written += save_drawings(drawings, file)
    for file in written:
        typer.echo(file)
