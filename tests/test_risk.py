"""The empirical risk: its value, its gradient, and what it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import gentheory as gt
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.params import flatten

MLP = CASES["mlp"]
X, Y = MLP.data


class Reversed(IterableDataset):
    """Batches of an iterable dataset, the same at every pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(X.split(5), Y.split(5), strict=True)


class Augmented(Dataset):
    """Noise at every look, as augmentation adds it."""

    def __init__(self, scale: float) -> None:
        self.scale, self.stream = scale, torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(X[index].shape, generator=self.stream, dtype=X.dtype)
        return X[index] + self.scale * noise, Y[index]


class Relabelled(IterableDataset):
    """The same inputs in the same order; the targets of one batch move."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        yield X, Y.roll(self.passes)


class Exhausted:
    """Iterable like a list, but empty from the second pass on."""

    def __init__(self) -> None:
        self.batches = iter([(X, Y)])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches


def risk_of(module: nn.Module, loss: Any = "cross_entropy", data: Any = (X, Y), **options: Any):
    return gt.EmpiricalRisk(module, loss, data, **options)


def test_value_losses_and_gradient_are_the_oracle_s(case: Case):
    risk, dense = case.risk(), truth(case.name)
    assert risk.value().item() == pytest.approx(dense.value, rel=1e-12)
    assert relative_error(risk.example_losses(), dense.losses) < 1e-12
    assert relative_error(risk.gradient(), dense.mean_gradient) < 1e-10
    assert torch.equal(risk.theta, dense.theta)
    assert (risk.num_params, risk.num_examples) == (len(dense.theta), case.count)


def test_value_and_gradient_at_other_parameters(case: Case):
    moved = case.module
    with torch.no_grad():
        for p in moved.parameters():
            if p.requires_grad:
                p += 0.1
    there = gt.EmpiricalRisk(moved, case.loss, case.data, weight_decay=case.weight_decay)
    here = case.risk()
    assert here.value(there.theta).item() == pytest.approx(there.value().item(), rel=1e-12)
    assert relative_error(here.gradient(there.theta), there.gradient()) < 1e-10
    given = case.risk(theta=there.theta)
    assert given.value().item() == pytest.approx(there.value().item(), rel=1e-12)


def test_gradient_is_the_slope_of_the_value():
    risk, step = CASES["gelu residual"].risk(weight_decay=0.3), 1e-5
    for index in (0, 17, risk.num_params - 1):
        e = torch.zeros(risk.num_params, dtype=torch.float64)
        e[index] = step
        slope = (risk.value(risk.theta + e) - risk.value(risk.theta - e)) / (2 * step)
        assert risk.gradient()[index].item() == pytest.approx(slope.item(), rel=1e-6)


def test_trap_4_batches_weigh_as_many_examples_as_they_hold():
    """A peer averages over batches: 60 + 4 gave it 177 % of error."""
    stream = torch.Generator().manual_seed(3)
    x = torch.randn(64, 5, generator=stream, dtype=torch.float64)
    x[60:] *= 10  # the small batch is unlike the large one
    y = torch.randint(3, (64,), generator=stream)
    whole = risk_of(MLP.module, data=(x, y), batch_size=64)
    split = risk_of(MLP.module, data=[(x[:60], y[:60]), (x[60:], y[60:])])
    assert split.value().item() == pytest.approx(whole.value().item(), rel=1e-14)
    assert relative_error(split.gradient(), whole.gradient()) < 1e-13
    assert (split.num_examples, len(split.example_losses())) == (64, 64)


DATA = {
    "tensors": (X, Y),
    "list of tensors": [X, Y],
    "dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), batch_size=5),
    "two batches": [(X[:7], Y[:7]), (X[7:], Y[7:])],
    "lists as batches": [[X[:7], Y[:7]], [X[7:], Y[7:]]],
    "iterable dataset": Reversed(),
    "loader of iterable dataset": DataLoader(Reversed(), batch_size=None),
}


@pytest.mark.parametrize("form", DATA)
def test_every_form_of_data_gives_the_same_numbers(form: str):
    risk, expected = risk_of(MLP.module, data=DATA[form]), truth("mlp")
    assert risk.value().item() == pytest.approx(expected.value, rel=1e-12)
    assert relative_error(risk.gradient(), expected.mean_gradient) < 1e-12
    assert relative_error(risk.example_losses(), expected.losses) < 1e-12


def test_a_split_is_converted_to_the_model_s_dtype():
    split = Split(X.float(), Y, 3, "rounded")
    risk = risk_of(MLP.module, data=split)
    expected = risk_of(MLP.module, data=(X.float().double(), Y))
    assert risk.value() == expected.value()


def test_trap_13_a_shuffled_loader_is_read_in_order_and_nothing_is_dropped():
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, drop_last=True)
    risk = risk_of(MLP.module, data=loader)
    assert risk.num_examples == 12
    assert relative_error(risk.example_losses(), truth("mlp").losses) < 1e-12
    assert torch.equal(risk.example_losses(), risk.example_losses())


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_trap_12_data_that_change_between_passes_are_refused(scale: float):
    expected = "data, batch 0: found other values on the second pass than on the first"
    with pytest.raises(InputError, match=expected):
        risk_of(MLP.module, data=Augmented(scale)).value()
    shuffled = [DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True)]
    with pytest.raises(InputError, match=expected):
        risk_of(MLP.module, data=Chained(shuffled)).value()


class Chained:
    """An iterable around shuffled loaders: their order is out of reach."""

    def __init__(self, loaders: list[DataLoader]) -> None:
        self.loaders = loaders

    def __iter__(self) -> Iterator[Any]:
        for loader in self.loaders:
            yield from loader


def test_trap_13_targets_that_move_alone_are_noticed():
    with pytest.raises(InputError, match="data, batch 0: found other values on the second pass"):
        risk_of(MLP.module, data=Relabelled()).gradient()


def test_nan_inputs_are_no_change_between_passes():
    bad = X.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(InputError, match="data, example 3: found an input that is nan or infinite"):
        risk_of(MLP.module, data=[(bad, Y)]).value()


def test_data_that_can_be_read_once_only_are_refused():
    with pytest.raises(InputError, match="data: found generator, which can be read once at most"):
        risk_of(MLP.module, data=(batch for batch in [(X, Y)]))
    with pytest.raises(InputError, match="data: found 1 batches, then 0"):
        risk_of(MLP.module, data=Exhausted()).value()


def test_no_data_are_refused():
    with pytest.raises(InputError, match="data: found no batch, expected at least one"):
        risk_of(MLP.module, data=[]).value()
    with pytest.raises(InputError, match="data: found 0 inputs and 0 targets"):
        risk_of(MLP.module, data=(X[:0], Y[:0]))


@pytest.mark.parametrize("batch", [(X, Y, Y), {"x": X, "y": Y}, X])
def test_batches_of_another_form_are_refused(batch: Any):
    with pytest.raises(InputError, match=r"data: found a batch (that is a (tuple|Tensor)|of 'x')"):
        risk_of(MLP.module, data=[batch]).value()


def test_the_example_with_a_bad_target_is_named():
    bad = Y.clone()
    bad[9] = 7
    with pytest.raises(InputError, match="data, example 9: found target 7, expected a class of 0"):
        risk_of(MLP.module, data=(X, bad), batch_size=4).check()


class Wrapped(nn.Module):
    """A net and what happens to its outputs."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.net, self.after = MLP.module, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net(x))


def test_trap_12_a_random_model_is_refused():
    noisy = Wrapped(lambda f: f + 1e-6 * torch.randn_like(f))
    with pytest.raises(InputError, match="Wrapped: found other values for the same inputs in eval"):
        risk_of(noisy).value()


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (lambda f: f[:, 0], r"\(12,\)"),
        (lambda f: f[None], r"\(1, 12, 3\)"),
        (lambda f: (f, f), "tuple"),
        (lambda f: {"logits": f}, "dict"),
    ],
)
def test_outputs_of_another_shape_are_refused(after: Any, found: str):
    with pytest.raises(InputError, match=f"outputs of Wrapped: found {found}, expected a tensor"):
        risk_of(Wrapped(after)).value()


@pytest.mark.parametrize(
    ("after", "rows"),
    [(lambda f: f - f.mean(0), 12), (lambda f: f.mean(0, keepdim=True), 1), (lambda f: f[1:], 11)],
)
def test_trap_21_outputs_that_depend_on_the_rest_of_the_batch_are_refused(after: Any, rows: int):
    expected = f"outputs of Wrapped: found {rows} rows for 12 examples, not the same for half"
    with pytest.raises(InputError, match=expected):
        risk_of(Wrapped(after)).value()


def test_trap_1_batch_norm_without_running_statistics_is_refused():
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(InputError, match="give normalization layers running statistics"):
        risk_of(net.double()).value()


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (nn.CrossEntropyLoss(), r"loss 'CrossEntropyLoss': found \(\) for 12 examples"),
        (lambda f, y: F.nll_loss(f, y).item(), "found float for 12 examples"),
        (lambda f, y: f, r"loss '<lambda>': found \(12, 3\) for 12 examples"),
    ],
)
def test_trap_4_a_loss_that_reduces_is_refused(loss: Any, found: str):
    with pytest.raises(InputError, match=found):
        risk_of(MLP.module, loss).gradient()


def test_torch_s_loss_modules_work_unreduced():
    risk = risk_of(MLP.module, nn.CrossEntropyLoss(reduction="none"))
    assert risk.value().item() == pytest.approx(truth("mlp").value, rel=1e-14)


@pytest.mark.parametrize("weight_decay", [-1e-9, float("nan")])
def test_a_weight_decay_below_zero_is_refused(weight_decay: float):
    with pytest.raises(InputError, match=f"weight_decay: found {weight_decay}, expected 0 or more"):
        risk_of(MLP.module, weight_decay=weight_decay)


def test_parameters_of_another_model_are_refused():
    with pytest.raises(InputError, match="theta: found 5 numbers, expected 100"):
        risk_of(MLP.module, theta=torch.zeros(5))


def test_trap_3_weight_decay_is_part_of_value_and_gradient():
    plain, decayed = MLP.risk(), MLP.risk(weight_decay=0.5)
    penalty = 0.25 * float(plain.theta @ plain.theta)
    assert (decayed.value() - plain.value()).item() == pytest.approx(penalty, rel=1e-12)
    assert torch.allclose(decayed.gradient() - plain.gradient(), 0.5 * plain.theta, rtol=1e-12)
    assert torch.equal(decayed.example_losses(), plain.example_losses())


def test_the_user_s_module_stays_as_it_was(case: Case):
    module = case.module
    inputs, targets = case.data
    kept = inputs.clone()
    case.values(module(inputs.clone()), targets).mean().backward()
    before = _state(module)
    risk = gt.EmpiricalRisk(module, case.loss, (inputs, targets), dtype=torch.float32, batch_size=4)
    risk.gradient(risk.theta + 1)
    gt.hessian(risk)(torch.ones_like(risk.theta))
    after = _state(module)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(part.training for part in module.modules())
    assert torch.equal(inputs, kept)


def test_trap_16_a_first_layer_in_place_does_not_write_into_the_data():
    inputs = X.clone()
    net = nn.Sequential(nn.ReLU(inplace=True), MLP.module)
    risk = risk_of(net, data=(inputs, Y))
    assert risk.value().item() == pytest.approx(
        risk_of(MLP.module, data=(X.relu(), Y)).value().item(), rel=1e-14
    )
    risk.gradient()
    gt.hessian(risk)(risk.theta)
    assert torch.equal(inputs, X)


def test_trap_16_a_model_that_works_in_place_stays_the_function_it_is():
    case = CASES["in place"]
    x, y = case.data
    with torch.no_grad():
        expected = case.values(case.module.eval()(x), y)
        net = case.module.eval()
        net.block[0].inplace = False
        assert not torch.allclose(case.values(net(x), y), expected)
    assert relative_error(case.risk().example_losses(), expected) < 1e-14


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Numbers, gradients, buffers and the in-place flags."""
    gradients = {f"{n}.grad": p.grad for n, p in module.named_parameters() if p.grad is not None}
    flags = {
        f"{n}.inplace": torch.tensor(m.inplace)
        for n, m in module.named_modules()
        if hasattr(m, "inplace")
    }
    tensors = {**module.state_dict(), **gradients}
    return {n: t.detach().clone() for n, t in tensors.items()} | flags


def test_later_changes_of_the_module_or_of_theta_do_not_reach_the_risk():
    module, theta = MLP.module, torch.linspace(-1, 1, 100, dtype=torch.float64)
    risk, given = risk_of(module), risk_of(module, theta=theta)
    expected = risk.value(), given.value()
    with torch.no_grad():
        module[0].weight.zero_()
    theta.zero_()
    assert (risk.value(), given.value()) == expected


def test_the_global_switch_for_fused_attention_is_put_back():
    assert torch.backends.mha.get_fastpath_enabled()
    CASES["attention"].risk().value()
    assert torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(InputError, match="expected a tensor"):
        risk_of(Wrapped(lambda f: (f,))).value()
    assert torch.backends.mha.get_fastpath_enabled()


def test_trap_1_batch_norm_uses_and_keeps_its_running_statistics():
    case = CASES["batch norm"]
    risk = case.risk()
    before = {n: b.clone() for n, b in risk.module.named_buffers()}
    assert risk.value().item() == pytest.approx(truth("batch norm").value, rel=1e-12)
    assert all(torch.equal(before[n], b) for n, b in risk.module.named_buffers())
    assert not any(part.training for part in risk.module.modules())


def test_trap_30_a_float32_risk_sums_in_float64():
    """A large first loss would swallow the many small ones in a float32 sum."""
    net, count = nn.Linear(1, 1, bias=False), 500
    nn.init.ones_(net.weight)
    x = torch.full((count + 1, 1), 0.1)
    x[0] = 1000.0
    risk = gt.EmpiricalRisk(net, "mse", (x, torch.zeros_like(x)), batch_size=1)
    expected = (1e6 + count * float(x[1].double().square())) / (count + 1)
    assert (risk.dtype, risk.value().dtype) == (torch.float32, torch.float64)
    assert risk.value().item() == pytest.approx(expected, rel=1e-9)
    assert risk.gradient().dtype == torch.float32
    assert risk.gradient().item() == pytest.approx(2 * expected, rel=1e-7)


def test_float32_and_float64_agree_to_rounding(case: Case):
    single = gt.EmpiricalRisk(case.module, case.loss, case.data, dtype=torch.float32)
    double = gt.EmpiricalRisk(case.module, case.loss, case.data)
    assert single.dtype == torch.float32
    assert single.value().item() == pytest.approx(double.value().item(), rel=3e-6)
    assert relative_error(single.gradient(), double.gradient()) < 1e-4
    assert torch.equal(single.theta, flatten(case.module).float())


def test_a_result_is_computed_once_for_each_key():
    risk, calls = MLP.risk(), []

    def result(value: int) -> int:
        calls.append(value)
        return value

    assert [risk.once("a", lambda: result(1)), risk.once("a", lambda: result(2))] == [1, 1]
    assert risk.once(("a", 0), lambda: result(3)) == 3
    assert MLP.risk().once("a", lambda: result(4)) == 4
    assert calls == [1, 3, 4]


def test_results_belong_to_the_data_they_came_from():
    risk = MLP.risk()
    risk.once("count", lambda: risk.num_examples)
    part = risk.restricted(lambda targets: targets == 0)
    count = int((MLP.data[1] == 0).sum())
    assert part.once("count", lambda: part.num_examples) == count < risk.num_examples
    assert risk.once("count", lambda: 0) == risk.num_examples


def test_a_risk_on_other_examples_is_their_mean():
    risk, (x, y) = MLP.risk(weight_decay=0.1), MLP.data
    risk.once("count", lambda: risk.num_examples)
    part = risk.on(x[[3, 1]], y[[3, 1]])
    assert part.once("count", lambda: part.num_examples) == 2
    penalty = 0.05 * risk.theta.square().sum()
    torch.testing.assert_close(part.value(), risk.example_losses()[[3, 1]].mean() + penalty)
    assert risk.num_examples == len(x)


def test_a_risk_at_other_parameters_is_the_same_function():
    risk = CASES["conv"].risk()
    elsewhere = torch.zeros_like(risk.theta)
    moved = risk.at(elsewhere)
    assert torch.equal(moved.example_losses(), risk.example_losses(elsewhere))
    risk.once("kept", lambda: 1)
    assert risk.at(elsewhere).once("kept", lambda: 2) == 2
    elsewhere += 1
    assert not moved.theta.any()


def test_all_examples_as_one_batch():
    risk = CASES["mlp"].risk(batch_size=5)
    inputs, targets = risk.joined()
    assert torch.equal(inputs, CASES["mlp"].data[0])
    assert torch.equal(targets, CASES["mlp"].data[1])
    net = nn.Sequential(nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(2, 2))
    batches = [(torch.zeros(2, 1, n), torch.zeros(2).long()) for n in (3, 4)]
    with pytest.raises(gt.InputError, match=r"inputs of shapes \(1, 3\) and \(1, 4\).*; pad all"):
        gt.EmpiricalRisk(net, "cross_entropy", batches).joined()


def test_a_change_of_the_parameters_in_place_is_seen() -> None:
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    risk = gt.EmpiricalRisk(
        nn.Linear(3, 2).double(), "cross_entropy", (x, torch.tensor([0, 1, 0, 1]))
    )
    before = risk.gradient().clone()
    risk.theta *= 2
    fresh = risk.at(risk.theta.clone())
    assert not torch.allclose(risk.gradient(), before)
    torch.testing.assert_close(risk.gradient(), fresh.gradient(), rtol=0, atol=0)
    risk.theta = risk.theta / 2
    torch.testing.assert_close(risk.gradient(), before, rtol=1e-12, atol=1e-14)
