"""What commands have in common that look at one model: which one it is, and what they write.

Heavy imports wait until a command runs, as in the command line.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Asked:
    """Which model, and a file for the numbers. A command has these options by `asking`."""

    checkpoint: Annotated[
        str | None, typer.Argument(help="FILE.safetensors, or FILE@N for model N of a stack.")
    ] = None
    model: Annotated[str | None, typer.Option(help="Your model: pkg.mod:factory.")] = None
    weights: Annotated[Path | None, typer.Option(help="Its state dict.")] = None
    data: Annotated[str | None, typer.Option(help="Your data: pkg.mod:dataset.")] = None
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy, the default; mse; or pkg.mod:function.")
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option(help="That your model was trained with; 0 unless given.")
    ] = None
    initial: Annotated[
        Path | None, typer.Option(help="Your model's state dict before training.")
    ] = None
    training_time: Annotated[
        float | None, typer.Option(help="Σ learning rate / (1 - momentum) over your model's steps.")
    ] = None
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64"
    seed: Annotated[int, typer.Option(help="Of the random probes.")] = 0
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None

    @property
    def own(self) -> Any:
        """The `OwnModel` that they name."""
        from gentheory.own_model import OwnModel

        return OwnModel(**{each.name: getattr(self, each.name) for each in fields(OwnModel)})

    def check(self, command: str) -> None:
        """Raise `InputError` for options that do not go together, before anything is computed."""
        from gentheory.own_model import check_given

        check_given(f"gentheory {command}", self.checkpoint, self.own)
        if self.json_file is not None:
            check_folder("--json", self.json_file)

    def load(self) -> Any:
        """What is to be measured."""
        from gentheory.own_model import subject_of

        return subject_of(self.checkpoint, self.own, self.dtype)


@dataclass(frozen=True)
class Measured(Asked):
    """The same with a file for a page."""

    html: Annotated[Path | None, typer.Option(help="Write a page here.")] = None

    def check(self, command: str) -> None:
        """Raise `InputError` for options that do not go together, before anything is computed."""
        super().check(command)
        if self.html is not None:
            check_folder("--html", self.html)

    def write(self, subject: Any, results: Any, numbers: str, verdict: Any = None) -> None:
        """The files that were asked for."""
        write_text(self.json_file, lambda: numbers + "\n")
        write_text(self.html, lambda: _page(subject, results, self.seed, verdict))


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its own options and those that its first parameter stands for."""
    first, *own = inspect.signature(command).parameters.values()
    kind: type[Asked] = first.annotation
    shared = inspect.signature(kind).parameters

    @functools.wraps(command)
    def called(**given: Any) -> None:
        command(kind(**{name: given.pop(name) for name in shared}), **given)

    parameters = [*shared.values(), *own]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    vars(called)["__signature__"] = inspect.Signature(parameters)
    return called


def check_folder(flag: str, file: Path) -> None:
    """Raise `InputError` where the file given by this flag cannot be written for want of one."""
    from gentheory.errors import InputError

    if not file.parent.is_dir():
        raise InputError(flag, str(file), "a file in an existing folder", "make it first")


def write_text(file: Path | None, text: Callable[[], str]) -> None:
    """What `text` returns to this file, if there is one."""
    from gentheory.study.files import full_disk

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
