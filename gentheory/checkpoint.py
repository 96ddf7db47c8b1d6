"""A trained model with what a measure may know of it: never the test data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gentheory import losses, models
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.models.norm import running_statistics, with_statistics
from gentheory.params import Layout
from gentheory.risk import EmpiricalRisk
from gentheory.trajectory import NAMES, Trajectory

FORMAT = 1
_STATISTICS = "statistics."


@dataclass(frozen=True)
class Checkpoint:
    """A risk at the trained parameters, on the training data, and how it came to be."""

    risk: EmpiricalRisk
    initial: Float[Tensor, " P"] | None = None
    """Parameters before training; None where nobody kept them."""
    steps: int | None = None
    training_time: float | None = None
    """T: learning rate / (1 - momentum) summed over the steps."""
    trajectory: Trajectory | None = None
    """Means over windows of training, on the training examples; None if not kept."""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Specification of model, data and training, as the study wrote it."""
    num_train: int | None = None
    """Number of examples it was trained on, where the risk holds others; None: the risk's."""

    @property
    def num_training_examples(self) -> int:
        """What a predicted gap is divided by, whatever data it is measured on."""
        return self.risk.num_examples if self.num_train is None else self.num_train

    def initial_for(self, place: str) -> Float[Tensor, " P"]:
        """The initial parameters. Raises `InputError` naming `place` where nobody kept them."""
        if self.initial is None:
            raise InputError(
                place,
                "no initial parameters",
                "a checkpoint that holds them",
                "hand in Checkpoint(risk, initial=gentheory.params.flatten(untrained_model))",
            )
        return self.initial.to(self.risk.theta)

    def training_time_for(self, place: str) -> float:
        """T. Raises `InputError` naming `place` where nobody kept it."""
        if self.training_time is None:
            raise InputError(
                place,
                "a checkpoint without training time",
                "one that knows it",
                "hand in Checkpoint(risk, training_time=sum of learning rate / (1 - momentum))",
            )
        return float(self.training_time)


def save(
    path: Path,
    theta: Float[Tensor, "M P"],
    initial: Float[Tensor, "M P"],
    *,
    layout: Layout,
    records: Sequence[Mapping[str, Any]],
    trajectory: Trajectory | None = None,
    statistics: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a stack of M models of one architecture to one safetensors file.

    Each record holds `model` (name, shape, num_classes, options), `data` (a `Recipe`), `loss`
    and perhaps `loss_options`, `weight_decay` (that of the objective, 0 where the optimizer
    decouples it), `steps` and `training_time`; more is kept as it is. `trajectory`
    is the stack's, if training kept it; `statistics` its running statistics, [M, ...] by name.
    """
    header = {
        "format": FORMAT,
        "names": layout.names,
        "shapes": layout.shapes,
        "models": list(records),
    }
    tensors = {"theta": theta.contiguous(), "initial": initial.contiguous()}
    if trajectory is not None:
        kept = trajectory.tensors().items()
        tensors |= {f"trajectory.{name}": tensor.contiguous() for name, tensor in kept}
    for name, tensor in (statistics or {}).items():
        tensors[_STATISTICS + name] = tensor.contiguous()
    save_file(tensors, path, metadata={"gentheory": json.dumps(header, allow_nan=False)})


def join(path: Path, parts: Sequence[Path | Sequence[Mapping[str, Any]]]) -> None:
    """Write the stacks of several files as one, in this order; one part at least is a file.

    Models of which there is no more than their records have nan for parameters, and zero for
    counts: `load` refuses those with the outcome "failed".
    """
    files = [part for part in parts if isinstance(part, Path)]
    header, like = _header(files[0]), load_file(files[0])
    records: list[Mapping[str, Any]] = []
    stacks: dict[str, list[Tensor]] = {name: [] for name in like}
    for part in parts:
        there = load_file(part) if isinstance(part, Path) else {}
        records += (found := _header(part)["models"] if isinstance(part, Path) else list(part))
        for name, tensor in like.items():
            fill = torch.nan if tensor.is_floating_point() else 0
            nothing = torch.full((len(found), *tensor.shape[1:]), fill, dtype=tensor.dtype)
            stacks[name].append(there.get(name, nothing))
    text = json.dumps({**header, "models": records}, allow_nan=False)
    tensors = {name: torch.cat(stack) for name, stack in stacks.items()}
    save_file(tensors, path, metadata={"gentheory": text})


def load(
    path: Path | str, index: int = 0, *, data: Any = None, dtype: torch.dtype | None = None
) -> Checkpoint:
    """Model `index` of a file that `save` wrote, on its own training data unless `data` is given.

    Raises `InputError` for a file that is missing, truncated or of another kind, for an index
    out of range, for a model that was given up or had ended before a checkpoint along training,
    and where the architecture named in the file has other parameters than the file.
    """
    path = Path(path)
    header = _header(path)
    records = header["models"]
    if not 0 <= index < len(records):
        raise InputError(f"{path}", f"index {index}", f"0 to {len(records) - 1}", "choose one")
    record = records[index]
    if record.get("outcome") == "failed":
        found = f"model {index}, which was given up ({record['reason']})"
        raise InputError(str(path), found, "a model that was trained", "choose another")
    if record.get("absent"):
        found = f"model {index}, which had ended before step {record['steps']}"
        cure = "choose an earlier checkpoint, or weights.safetensors, where it ended"
        raise InputError(str(path), found, "a model in training", cure)
    module = _module(path, header, record["model"])
    tensors = _tensors(path, index)
    theta = tensors["theta"]
    risk = EmpiricalRisk(
        with_statistics(module, _statistics(path, tensors, module)),
        losses.resolve(record["loss"], record.get("loss_options")),
        Recipe(**record["data"]).train() if data is None else data,
        weight_decay=record["weight_decay"],
        theta=theta,
        dtype=dtype or theta.dtype,
    )
    # They belong to the training examples: other data have none.
    kept = _trajectory(tensors) if data is None else None
    return Checkpoint(
        risk,
        tensors["initial"].to(risk.theta),
        record["steps"],
        record["training_time"],
        None if kept is None else kept.to(risk.theta),
        record,
        None if data is None else record["data"].get("n_train"),
    )


def _statistics(path: Path, tensors: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The running statistics; a net that has some means nothing without them."""
    wanted = running_statistics(module)
    found = {
        name.removeprefix(_STATISTICS): tensor
        for name, tensor in tensors.items()
        if name.startswith(_STATISTICS)
    }
    shapes = [{name: t.shape for name, t in each.items()} for each in (found, wanted)]
    if shapes[0] != shapes[1]:
        raise InputError(
            str(path),
            f"{len(found)} running statistics",
            f"the {len(wanted)} of the architecture",
            "copy it again, or train it again",
        )
    return found


def _trajectory(tensors: Mapping[str, Tensor]) -> Trajectory | None:
    named = {name: f"trajectory.{name}" for name in NAMES}
    kept = {name: tensors[stored] for name, stored in named.items() if stored in tensors}
    # Files of earlier versions, and of nets without classes, hold no margins.
    return Trajectory(**kept) if {*kept, "margins"} == set(NAMES) else None


def load_weights(module: nn.Module, path: Path | str) -> nn.Module:
    """Fill the module from a state dict: `.safetensors`, or `.pt` read without running code.

    Raises `InputError` for a file that is missing, truncated, that holds Python objects instead
    of tensors, or whose tensors are not those of the module.
    """
    path = Path(path)
    state = _state_dict(path)
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise InputError(
            str(path), f"a {type(state).__name__}", "a state dict", "save model.state_dict()"
        )
    own = module.state_dict()
    for name in [*own, *state]:
        found = tuple(state[name].shape) if name in state else "nothing"
        wanted = tuple(own[name].shape) if name in own else "nothing"
        if found != wanted:
            raise InputError(
                f"{path}, tensor {name!r}",
                str(found),
                f"{wanted} for {type(module).__name__}",
                "load the weights into the architecture they were trained in",
            )
    module.load_state_dict(dict(state))
    return module


def _state_dict(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a file of weights", "check the path") from None
    except Exception as error:
        # torch.load raises whatever the damaged or hostile file makes it stumble over.
        found = f"a damaged file ({_brief(error)})"
        if isinstance(error, UnpicklingError):
            code = "GLOBAL" in str(error)  # what it calls a function or class to be run
            found = "a pickle that would run code" if code else "bytes that are no weights"
        raise InputError(
            str(path),
            found,
            "a state dict of tensors",
            "save model.state_dict() with torch.save or safetensors, and copy it whole",
        ) from error


def _tensors(path: Path, index: int) -> dict[str, Tensor]:
    """What the file holds of this model, by name."""
    try:
        with safe_open(path, "pt") as file:
            names = {"theta", "initial", *file.keys()}  # the first two must be there
            return {name: file.get_slice(name)[index] for name in names}
    except (SafetensorError, IndexError) as error:
        raise InputError(
            str(path),
            f"no parameters of model {index} ({_brief(error)})",
            "tensors theta and initial [M, P]",
            "copy it again, or train it again",
        ) from error


def _header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        header = json.loads(metadata.get("gentheory", "null"))
    except FileNotFoundError:
        raise InputError(str(path), "no such file", "a checkpoint", "check the path") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            str(path),
            f"a damaged or foreign file ({_brief(error)})",
            "a checkpoint written by gentheory",
            "copy it again, or train it again",
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(
            str(path),
            "safetensors without gentheory's description",
            f"a checkpoint of format {FORMAT}",
            "for weights of your own use --model, --weights, --data and --loss",
        )
    return header


def _module(path: Path, header: Mapping[str, Any], model: Mapping[str, Any]) -> nn.Module:
    module = models.build(
        model["name"],
        shape=tuple(model["shape"]),
        num_classes=model["num_classes"],
        options=model["options"],
    )
    layout = Layout.of(module)
    stored = (tuple(header["names"]), tuple(map(tuple, header["shapes"])))
    if (layout.names, layout.shapes) != stored:
        raise InputError(
            str(path),
            f"{len(stored[0])} tensors that are not those of the architecture it names",
            f"{model['name']} with {layout.size} parameters",
            "use the version of gentheory that wrote it",
        )
    return module


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
