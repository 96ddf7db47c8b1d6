"""What the command line measures: a stored checkpoint, or a model of one's own."""

import copy
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gentheory import checkpoint
from gentheory.checkpoint import Checkpoint, load_weights
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.risk import EmpiricalRisk


@dataclass(frozen=True)
class OwnModel:
    """What the options of the command line say; None where one is not given."""

    model: str | None
    weights: Path | None
    data: str | None
    loss: str | None
    weight_decay: float | None
    initial: Path | None
    training_time: float | None

    def held(self) -> dict[str, Any]:
        """What a stored checkpoint holds itself, and nobody may give again, by its flag."""
        return {
            "--weights": self.weights,
            "--loss": self.loss,
            "--weight-decay": self.weight_decay,
            "--initial": self.initial,
            "--training-time": self.training_time,
        }

    def load(self, dtype: str) -> Checkpoint:
        """The model with its data. Raises `InputError` for what cannot be found or used."""
        module = _named(str(self.model), "--model")
        if not isinstance(module, nn.Module):
            raise InputError(
                f"--model {self.model}",
                type(module).__name__,
                "a torch.nn.Module",
                "return the model",
            )
        if self.data is None:
            raise InputError("--data", "nothing", "pkg.mod:dataset", "name the training data")
        initial = None if self.initial is None else _initial(module, self.initial)
        if self.weights is not None:
            load_weights(module, self.weights)
        named = self.loss is not None and ":" in self.loss
        risk = EmpiricalRisk(
            module,
            (_named(str(self.loss), "--loss", call=False) if named else self.loss)
            or "cross_entropy",
            _named(self.data, "--data"),
            weight_decay=self.weight_decay or 0.0,
            dtype=dtype_of(dtype),
        )
        risk.check()
        return Checkpoint(
            risk,
            None if initial is None else initial.to(risk.theta),
            training_time=self.training_time,
        )


def check_given(command: str, address: str | None, own: OwnModel) -> None:
    """Raise `InputError` unless one of the two is given, with a training time that can be."""
    if (address is None) == (own.model is None):
        raise InputError(
            command,
            "both a checkpoint and --model" if own.model else "neither a checkpoint nor --model",
            "one of the two",
            "give FILE.safetensors, or --model with --data",
        )
    time = own.training_time
    if time is not None and not 0 < time < float("inf"):
        cure = "sum learning rate / (1 - momentum) over the steps"
        raise InputError("--training-time", f"{time:g}", "a positive number", cure)


def subject_of(address: str | None, own: OwnModel, dtype: str) -> Checkpoint:
    """The checkpoint at this address, or else the model of one's own.

    Raises `InputError` for what either cannot give.
    """
    return own.load(dtype) if address is None else _stored(address, own, dtype)


def _stored(address: str, own: OwnModel, dtype: str) -> Checkpoint:
    """The checkpoint at FILE or FILE@N."""
    for flag, value in own.held().items():
        if value is not None:
            raise InputError(
                flag, str(value), "nothing, as a checkpoint holds its own", "leave it out"
            )
    path, index = address_of(address)
    found = checkpoint.load(
        path,
        index,
        data=data_of(own),
        dtype=dtype_of(dtype),
    )
    found.risk.check()
    return found


def address_of(address: str) -> tuple[Path, int]:
    """File and number of the model in FILE or FILE@N. Raises `InputError` for another N."""
    path, at, index = address.rpartition("@")
    if at and not index.isdecimal():
        raise InputError(address, f"index {index!r}", "a number after the @", "give FILE@0")
    return Path(path if at else address), int(index) if at else 0


def _initial(module: nn.Module, file: Path) -> torch.Tensor:
    """The trainable parameters in this state dict; the module keeps its own."""
    return flatten(load_weights(copy.deepcopy(module), file))


def data_of(own: OwnModel) -> Any:
    """The data at --data; None where it is not given."""
    return None if own.data is None else _named(own.data, "--data")


def _named(address: str, flag: str, *, call: bool = True) -> Any:
    """The object at pkg.mod:attribute; a function or class is called for what it returns."""
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
    return found() if call and callable(found) and not isinstance(found, nn.Module) else found


def dtype_of(name: str) -> torch.dtype:
    """float32 or float64. Raises `InputError` for any other name."""
    if name not in ("float32", "float64"):
        raise InputError("--dtype", repr(name), "float32 or float64", "choose one")
    return getattr(torch, name)


def options_of(given: list[str]) -> dict[str, dict[str, Any]]:
    """MEASURE.OPTION=VALUE, the value as JSON where it is, as text otherwise."""
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
