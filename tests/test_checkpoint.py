"""Checkpoints come back as they were written; anything else is refused in one sentence."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import gentheory as gt
from gentheory import models
from gentheory.checkpoint import FORMAT, load, load_weights, save
from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.params import Layout, flatten, load_flat
from gentheory.trajectory import Trajectory

MODEL = {"name": "mlp", "shape": (1, 8, 8), "num_classes": 10, "options": {"depth": 2, "width": 3}}
DATA = {"name": "digits", "options": {}, "n_train": 40, "label_noise": 0.1, "seed": 3}


def record(**changes: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "data": DATA,
        "loss": "cross_entropy",
        "weight_decay": 0.01,
        "steps": 12,
        "training_time": 1.5,
        "note": {"kept": [1, None]},
        **changes,
    }


def module() -> nn.Module:
    options = dict(MODEL["options"])
    return models.build("mlp", shape=(1, 8, 8), num_classes=10, options=options, seed=0)


def stack(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(0)
    size = Layout.of(module()).size
    return tuple(torch.randn(2, size, generator=stream, dtype=dtype) for _ in range(2))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "stack.safetensors"
    records = [record(), record(steps=13, training_time=None)]
    save(path, *stack(), layout=Layout.of(module()), records=records)
    return path


@pytest.mark.parametrize("index", [0, 1])
def test_round_trip(written: Path, index: int):
    theta, initial = stack()
    back = load(written, index)
    assert torch.equal(back.risk.theta, theta[index])
    assert torch.equal(back.initial, initial[index])
    assert (back.steps, back.training_time) == ((12, 1.5), (13, None))[index]
    assert back.record["note"] == {"kept": [1, None]}
    assert (back.risk.loss.name, back.risk.weight_decay) == ("cross_entropy", 0.01)


def test_the_risk_is_that_of_the_training_data(written: Path):
    net, train = module().double(), Recipe(**DATA).train()
    load_flat(net, stack()[0][0])
    expected = gt.EmpiricalRisk(net, "cross_entropy", train, weight_decay=0.01)
    loaded = load(str(written)).risk
    assert loaded.num_examples == 40
    assert loaded.value() == expected.value()
    assert torch.equal(loaded.gradient(), expected.gradient())


def test_other_data_and_another_dtype(written: Path):
    data = (torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2]))
    back = load(written, data=data, dtype=torch.float32)
    assert back.risk.num_examples == 3
    # What was learned was learned from the 40 training examples, whatever it is measured on.
    assert back.num_training_examples == load(written).num_training_examples == 40
    assert (back.risk.dtype, back.initial.dtype) == (torch.float32, torch.float32)


def test_stored_in_the_dtype_of_training(tmp_path: Path):
    path = tmp_path / "single.safetensors"
    theta, initial = stack(torch.float32)
    save(path, theta, initial, layout=Layout.of(module()), records=[record()] * 2)
    assert load(path, 1).risk.dtype == torch.float32
    assert torch.equal(load(path, 1).risk.theta, theta[1])


def test_a_record_without_json_is_not_written(tmp_path: Path):
    path = tmp_path / "nan.safetensors"
    records = [record(training_time=float("nan"))]
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        save(path, *stack(), layout=Layout.of(module()), records=records)
    assert not path.exists()


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_out_of_range(written: Path, index: int):
    with pytest.raises(InputError, match=f"found index {index}, expected 0 to 1"):
        load(written, index)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"none\.safetensors: found no such file, expected a check"
    ):
        load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_file(written: Path, keep: int):
    whole = written.read_bytes()
    written.write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"found a damaged or foreign file \(.*copy it again"):
        load(written)


def test_a_folder_and_a_foreign_file(tmp_path: Path):
    with pytest.raises(InputError, match="found a damaged or foreign file"):
        load(tmp_path)
    foreign = tmp_path / "text.safetensors"
    foreign.write_text("not a checkpoint at all")
    with pytest.raises(InputError, match="found a damaged or foreign file"):
        load(foreign)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"gentheory": "[1]"}])
def test_somebody_else_s_safetensors(tmp_path: Path, metadata: dict[str, str] | None):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(InputError, match="safetensors without gentheory's description, expected a"):
        load(path)


def test_another_format(written: Path, tmp_path: Path):
    path = tmp_path / "future.safetensors"
    header = {"format": FORMAT + 1, "models": []}
    save_file({"theta": torch.zeros(1, 2)}, path, metadata={"gentheory": json.dumps(header)})
    with pytest.raises(InputError, match=f"expected a checkpoint of format {FORMAT}"):
        load(path)


@pytest.mark.parametrize("options", [{"depth": 3, "width": 3}, {"depth": 2, "width": 4}])
def test_another_architecture_in_the_header(tmp_path: Path, options: dict[str, int]):
    path = tmp_path / "renamed.safetensors"
    records = [record(model={**MODEL, "options": options})] * 2
    save(path, *stack(), layout=Layout.of(module()), records=records)
    with pytest.raises(InputError, match="found 4 tensors that are not those of the architecture"):
        load(path)


# Weights of a user's own.


def test_weights_round_trip(tmp_path: Path):
    source, target = module(), module()
    with torch.no_grad():
        source.get_parameter("1.0.weight").fill_(0.5)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    for name in ("weights.pt", "weights.safetensors"):
        filled = load_weights(target, tmp_path / name)
        assert filled is target
        assert torch.equal(flatten(filled), flatten(source))


def test_buffers_are_weights_too(tmp_path: Path):
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source.running_mean.fill_(3.0)
    torch.save(source.state_dict(), tmp_path / "norm.pt")
    assert load_weights(target, tmp_path / "norm.pt").running_mean.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors"])
def test_weights_that_are_not_there(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=f"{name}: found no such file, expected a file of weights"):
        load_weights(module(), tmp_path / name)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("keep", [0, 100, -10])
def test_truncated_weights(tmp_path: Path, suffix: str, keep: int):
    path = tmp_path / f"weights.{suffix}"
    write = torch.save if suffix == "pt" else save_file
    write(module().state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"found a damaged file \(.*copy it whole"):
        load_weights(module(), path)


def test_bytes_that_are_no_pickle(tmp_path: Path):
    path = tmp_path / "weights.pt"
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="found bytes that are no weights, expected a state dict"):
        load_weights(module(), path)


class Hostile:
    """Unpickled by anything that runs code, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path, wrapped: bool):
    mark, path = tmp_path / "mark", tmp_path / "hostile.pt"
    content = {"weight": torch.zeros(2), "code": Hostile(mark)}
    if wrapped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    with pytest.raises(InputError, match="found a pickle that would run code, expected a state"):
        load_weights(nn.Linear(2, 1), path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))  # the bait does work
    assert mark.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path):
    torch.save(nn.Linear(2, 1), tmp_path / "model.pt")
    with pytest.raises(InputError, match="a pickle that would run code, expected a state dict of"):
        load_weights(nn.Linear(2, 1), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"epoch": 3, "model": {}}, torch.zeros(2)])
def test_something_else_than_a_state_dict(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / "thing.pt")
    with pytest.raises(InputError, match=r"found a (list|dict|Tensor), expected a state dict"):
        load_weights(nn.Linear(2, 1), tmp_path / "thing.pt")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(1, 3)}, r"tensor 'weight': found \(1, 3\), expected \(1, 2\) for"),
        ({"weight": torch.zeros(1, 2)}, r"tensor 'bias': found nothing, expected \(1,\) for Lin"),
        ({"weight": torch.zeros(1, 2), "bias": torch.zeros(1), "more": torch.zeros(2)}, "'more'"),
    ],
)
def test_weights_of_another_architecture_change_nothing(
    tmp_path: Path, state: dict[str, Tensor], message: str
):
    target = nn.Linear(2, 1)
    before = flatten(target)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=message):
        load_weights(target, tmp_path / "weights.pt")
    assert torch.equal(flatten(target), before)


@pytest.mark.parametrize("margins", [((2, 3, 40),), ()])  # earlier versions kept none
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_trajectory_comes_back_on_the_training_data_alone(
    tmp_path: Path, dtype: torch.dtype, margins: tuple[tuple[int, ...], ...]
):
    path, stream = tmp_path / "stack.safetensors", torch.Generator().manual_seed(1)
    shapes = ((2, 3), (2, 3, 40, 10), (2, 3, 40), (2, 3, Layout.of(module()).size), *margins)
    kept = Trajectory(*(torch.randn(shape, generator=stream) for shape in shapes))
    kept.residuals[1, 2] = torch.nan  # not reached by the second model
    layout, records = Layout.of(module()), [record(), record()]
    save(path, *stack(), layout=layout, records=records, trajectory=kept)
    for index in range(2):
        back = load(path, index, dtype=dtype).trajectory
        assert back is not None
        assert (back.margins is None) == (not margins)
        for name, tensor in kept[index].tensors().items():
            found = back.tensors()[name]
            torch.testing.assert_close(found, tensor.to(dtype), rtol=0, atol=0, equal_nan=True)
    train = Recipe(**DATA).train()
    assert load(path, 1, data=(train.inputs, train.targets)).trajectory is None


def test_there_is_no_trajectory_where_none_was_kept(written: Path):
    assert load(written).trajectory is None


NORMALIZED = {
    "name": "resnet",
    "shape": (1, 8, 8),
    "num_classes": 10,
    "options": {"width": 1, "norm": "batch"},
}


def test_running_statistics_come_back_each_model_s_own(tmp_path: Path):
    net = models.build(**NORMALIZED, seed=0).double()
    own = {name: torch.stack([b + 1, b + 2]) for name, b in net.named_buffers()}
    theta = flatten(net).repeat(2, 1)
    path, records = tmp_path / "stack.safetensors", [record(model=NORMALIZED)] * 2
    kept = {"layout": Layout.of(net), "records": records}
    save(path, theta, theta.clone(), **kept, statistics=own)
    for m in range(2):
        risk = load(path, m).risk
        found = dict(risk.module.named_buffers())
        assert all(torch.equal(found[name], stacked[m]) for name, stacked in own.items())
        assert len(found) == len(own) > 0
        x = next(risk.batches())[0]
        for name, buffer in net.named_buffers():
            buffer.copy_(own[name][m])
        assert torch.allclose(risk.outputs(risk.theta, x), net.eval()(x), rtol=1e-12)
    for few in ({}, {name: b for name, b in own.items() if "mean" in name}):
        save(path, theta, theta.clone(), **kept, statistics=few)
        with pytest.raises(
            InputError, match=f"found {len(few)} running statistics, expected the 2"
        ):
            load(path)
