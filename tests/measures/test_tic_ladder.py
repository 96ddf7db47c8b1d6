"""The rungs of TIC against dense formulas, and the identities that tie them to one another."""

import math
from typing import Any

import factor_loops
import numpy as np
import pytest
import torch
from cases import CASES, Case, truth
from torch import Tensor, nn

import gentheory as gt
from gentheory import measures
from gentheory.checkpoint import Checkpoint
from gentheory.curvature import sampled_fisher
from gentheory.estimate import Estimate
from gentheory.factors.kronecker import Eigenbasis, kronecker
from gentheory.middles import middle_of
from gentheory.seeds import generator

pytestmark = pytest.mark.usefixtures("untraced")

DECOMPOSED = ["exact", "blocks", "kfac", "ekfac", "diagonal", "kernel"]
DAMPED = [*DECOMPOSED, "solve"]
PIECEWISE = [name for name, case in CASES.items() if case.piecewise]


def run(
    name: str, subject: Checkpoint | gt.EmpiricalRisk, seed: int = 0, **options: Any
) -> Estimate:
    subject = subject if isinstance(subject, Checkpoint) else Checkpoint(subject)
    return measures.find(f"tic.{name}")(subject, generator=generator(seed), **options)


def explained(case: Case) -> list[str]:
    return [name for name in case.risk().layout.names if name not in case.unexplained]


def covariance(case: Case, centred: bool) -> Tensor:
    return truth(case.name).centred if centred else truth(case.name).covariance


def damped(h: Tensor, c: Tensor, count: int, damping: float) -> float:
    """tr((H + λI)⁻¹ C) / N, λ relative to the largest eigenvalue."""
    ridge = damping * torch.linalg.eigvalsh(h).abs().max()
    return float(torch.linalg.solve(h + ridge * torch.eye(len(h)).double(), c).trace()) / count


def cut(matrix: Tensor, blocks: list[slice]) -> Tensor:
    return torch.block_diag(*(matrix[block, block] for block in blocks))


# Each rung is a dense formula.


@pytest.mark.parametrize("centred", [False, True])
def test_blocks_are_dense_blocks(case: Case, centred: bool):
    layers = list(case.risk().layout.layers.values())
    for curvature in ["ggn"] if case.likelihood is None else ["ggn", "fisher"]:
        h = cut(getattr(truth(case.name), curvature), layers)
        found = run("blocks", case.risk(), curvature=curvature, centred=centred, damping=0.01)
        wanted = damped(h, covariance(case, centred), case.count, 0.01)
        assert found.value == pytest.approx(wanted, rel=1e-8)
        assert (found.stderr, found.status) == (0.0, "ok")


@pytest.mark.parametrize("centred", [False, True])
def test_kfac_is_the_trace_with_dense_factors(case: Case, centred: bool):
    """C by its factors, and what weight decay and centring add to it."""
    names, exact = explained(case), truth(case.name)
    h = factor_loops.dense(case, "curvature", names)
    c = factor_loops.dense(case, "covariance", names)
    d, mean = case.weight_decay * exact.theta, exact.mean_gradient
    cross = torch.outer(mean - d, d)
    c = c + cross + cross.T + torch.outer(d, d) - centred * torch.outer(mean, mean)
    wanted = damped(h + case.weight_decay * torch.eye(len(h)).double(), c, case.count, 0.01)
    found = run("kfac", case.risk(), centred=centred, damping=0.01)
    assert found.value == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("centred", [False, True])
def test_ekfac_is_the_diagonal_in_the_kronecker_basis(case: Case, centred: bool):
    """diag(QᵀCQ) / (diag(QᵀHQ) + λ) with the oracle's matrices."""
    risk = case.risk()
    basis = Eigenbasis.of(kronecker(risk, middle_of(risk, "ggn", generator(0))))
    q = basis.vectors(torch.eye(risk.num_params, dtype=torch.float64)).T
    h = (q.T @ truth(case.name).ggn @ q).diagonal()
    c = (q.T @ covariance(case, centred) @ q).diagonal()
    wanted = float((c / (h + 0.01 * h.max())).sum()) / case.count
    found = run("ekfac", risk, centred=centred, damping=0.01)
    assert found.value == pytest.approx(wanted, rel=1e-8)


# Where an approximation has nothing to approximate it is exact.


def one_layer(count: int = 8, bias: bool = True) -> gt.EmpiricalRisk:
    x = torch.randn(count, 4, generator=generator("layer"), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Linear(4, 3, bias=bias).double()
    return gt.EmpiricalRisk(net, "cross_entropy", (x, torch.arange(count) % 3), weight_decay=0.01)


def test_blocks_of_one_layer_are_exact():
    one, other = run("blocks", one_layer()), run("exact", one_layer())
    assert one.value == pytest.approx(other.value, rel=1e-10)
    for name in ("effective_rank", "newton_decrement", "slope_log_damping", "gradient_norm"):
        assert one.stats[name] == pytest.approx(other.stats[name], rel=1e-9)


def test_factors_are_exact_for_one_example_and_one_layer():
    """A ⊗ S is the block, and the basis is H's own."""
    exact, kfac, ekfac = (
        run(n, one_layer(1, bias=False)).value for n in ("exact", "kfac", "ekfac")
    )
    assert kfac == pytest.approx(exact, rel=1e-9)
    assert ekfac == pytest.approx(exact, rel=1e-9)


def test_all_rungs_agree_where_the_curvature_is_diagonal():
    """Orthogonal inputs and mse: H = 2/3 · 1/4 · I for the weights, whatever the basis."""
    net = nn.Linear(4, 3, bias=False).double()
    y = torch.randn(4, 3, generator=generator("y"), dtype=torch.float64)
    risk = gt.EmpiricalRisk(net, "mse", (torch.eye(4, dtype=torch.float64), y))
    exact = run("exact", risk).value
    for rung in DAMPED:  # orthogonal gradients: no sign matters
        assert run(rung, risk).value == pytest.approx(exact, rel=1e-8), rung
    ratio, undamped = run("trace_ratio", risk).value, run("exact", risk, damping=0.0).value
    assert 12 * ratio == pytest.approx(undamped, rel=1e-10)  # Σ c / Σ h of 12 equal h


def test_layers_of_blocks_are_blind_to_one_another():
    """Moving the last layer's bias alone: its own block is all that blocks see."""
    net = CASES["mlp"].module.requires_grad_(False)
    net[4].requires_grad_(True)
    risk = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)
    assert run("blocks", risk).value == pytest.approx(run("exact", risk).value, rel=1e-10)


@pytest.mark.parametrize("name", PIECEWISE)
def test_blocks_of_hessian_and_ggn_agree_for_relu_and_softmax(name: str):
    """On a piece, each layer is linear given the others; the blocks between layers differ."""
    risk = CASES[name].risk()
    hessian, ggn = (run("blocks", risk, curvature=c) for c in ("hessian", "ggn"))
    assert hessian.value == pytest.approx(ggn.value, rel=1e-7)
    assert hessian.stats["negative_mass"] < 1e-12
    diagonals = [run("diagonal", risk, curvature=c).value for c in ("hessian", "ggn", "fisher")]
    assert diagonals == pytest.approx([diagonals[0]] * 3, rel=1e-9)
    whole = [run("exact", risk, curvature=c).value for c in ("hessian", "ggn")]
    assert whole[0] != pytest.approx(whole[1], rel=1e-4)


@pytest.mark.parametrize("name", PIECEWISE)
def test_hessian_and_fisher_have_one_trace_for_relu_and_softmax(name: str):
    dense, risk = truth(name), CASES[name].risk()
    assert float(dense.hessian.trace()) == pytest.approx(float(dense.fisher.trace()), rel=1e-10)
    found = run("trace_ratio", risk, curvature="fisher").stats["trace_curvature"]
    assert found == pytest.approx(float(dense.hessian.trace()), rel=1e-10)


@pytest.mark.parametrize("rung", ["diagonal", "ekfac"])
def test_no_diagonal_is_below_the_trace_ratio(case: Case, rung: str):
    """Σ c / h ≥ Σ c / Σ h in any basis, as traces do not depend on it."""
    risk = case.risk()
    assert run(rung, risk, damping=0.0).value >= run("trace_ratio", risk).value * (1 - 1e-12)


@pytest.mark.parametrize("rung", [*DAMPED, "trace_ratio"])
def test_with_the_curvature_as_covariance_it_is_the_soft_rank(rung: str):
    """A model at the frequencies of its labels, each input once with each label: C = F."""
    x = torch.randn(6, 3, generator=generator("soft rank"), dtype=torch.float64)
    net = nn.Linear(3, 3).double()
    with torch.no_grad():
        net.weight.zero_()
        net.bias.zero_()
    data = (x.repeat(3, 1), torch.arange(3).repeat_interleave(6))
    found = run(rung, gt.EmpiricalRisk(net, "cross_entropy", data))
    if rung == "trace_ratio":
        assert found.stats["raw_trace"] == pytest.approx(1, rel=1e-12)
    elif rung == "solve":
        error = math.hypot(18 * found.stderr, found.stats["effective_rank_stderr"])
        assert abs(found.stats["raw_trace"] - found.stats["effective_rank"]) < 4 * error
    else:
        assert found.stats["raw_trace"] == pytest.approx(found.stats["effective_rank"], rel=1e-8)


# Negative and vanishing curvature.


def pseudo_inverse(h: np.ndarray, cutoff: float) -> np.ndarray:
    """Thomas et al.: eigenvalues below the cutoff are dropped, the others inverted."""
    values, vectors = np.linalg.eigh(h)
    kept = values > cutoff * np.abs(values).max()
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_trap_9_truncated_is_the_pseudo_inverse(case: Case, curvature: str):
    dense = truth(case.name)
    inverse = pseudo_inverse(getattr(dense, curvature).numpy(), 0.02)
    c, g = dense.covariance.numpy(), dense.mean_gradient.numpy()
    found = run("exact", case.risk(), curvature=curvature, damping=0.02, truncated=True)
    assert found.value == pytest.approx(np.trace(inverse @ c) / case.count, rel=1e-7)
    assert found.stats["effective_rank"] == pytest.approx(np.linalg.matrix_rank(inverse))
    assert found.stats["newton_decrement"] == pytest.approx(g @ inverse @ g / 2, rel=1e-6)
    assert "slope_log_damping" not in found.stats  # it has none
    assert found.value > 0


@pytest.mark.parametrize("centred", [False, True])
def test_truncated_kernel_equals_truncated_exact(case: Case, centred: bool):
    options = {"damping": 0.02, "truncated": True, "centred": centred}
    exact, kernel = (run(name, case.risk(), **options) for name in ("exact", "kernel"))
    assert kernel.value == pytest.approx(exact.value, rel=1e-7)
    assert kernel.stats["effective_rank"] == exact.stats["effective_rank"]


@pytest.mark.parametrize("name", ["gelu residual", "own attention", "twice", "mlp"])
def test_trap_9_no_signed_inverse_of_the_hessian(name: str):
    """Each mode counts by |h| + λ: the value is positive and falls with the damping."""
    dense, count = truth(name), CASES[name].count
    values, vectors = np.linalg.eigh(dense.hessian.numpy())
    size = np.abs(values)
    c = np.sum(vectors * (dense.covariance.numpy() @ vectors), axis=0)
    previous = math.inf
    for damping in (1e-6, 1e-3, 1e-1):
        found = run("exact", CASES[name].risk(), curvature="hessian", damping=damping)
        wanted = np.sum(c / (size + damping * size.max())) / count
        assert found.value == pytest.approx(wanted, rel=1e-6)
        assert 0 < found.value < previous
        mass = -values[values < 0].sum() / size.sum()
        assert found.stats["negative_mass"] == pytest.approx(mass, rel=1e-7)
        assert mass > 1e-3
        previous = found.value
    for rung in ("blocks", "diagonal"):
        assert run(rung, CASES[name].risk(), curvature="hessian").value > 0


@pytest.mark.parametrize("rung", DECOMPOSED)
def test_trap_10_without_damping_there_is_a_finite_number(rung: str):
    """Most directions of this net have no curvature; what has none is left out."""
    found = run(rung, CASES["unused"].risk(weight_decay=0.0), damping=0.0)
    assert 0 < found.value < math.inf
    assert found.stats["slope_log_damping"] == 0
    assert found.stats["absolute_damping"] == 0


@pytest.mark.parametrize("rung", DECOMPOSED)
def test_trap_10_the_damping_is_relative_to_the_largest_curvature(rung: str):
    """So that a loss in other units has the same TIC in those units."""

    def scaled(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1e-6 * nn.functional.cross_entropy(outputs, targets, reduction="none")

    net, data = CASES["mlp"].module, CASES["mlp"].data
    one, small = (
        run(rung, gt.EmpiricalRisk(net, loss, data)) for loss in ("cross_entropy", scaled)
    )
    assert small.value == pytest.approx(1e-6 * one.value, rel=1e-8)
    assert small.stats["absolute_damping"] == pytest.approx(1e-6 * one.stats["absolute_damping"])


# What stands beside the value.


@pytest.mark.parametrize("rung", DAMPED)
@pytest.mark.parametrize("damping", [1e-3, 0.3])
def test_trap_8_slope_in_the_logarithm_of_the_damping(rung: str, damping: float):
    risk, step = CASES["skip"].risk(), 1e-4
    options = {"rtol": 1e-11} if rung == "solve" else {}
    up, here, down = (
        run(rung, risk, absolute_damping=damping * math.exp(s), **options) for s in (step, 0, -step)
    )
    slope = (up.value - down.value) / (2 * step)
    assert here.stats["slope_log_damping"] == pytest.approx(slope, rel=1e-5)
    assert slope < 0


@pytest.mark.parametrize("rung", ["blocks", "kfac", "ekfac", "diagonal"])
def test_statistics_of_a_rung(rung: str):
    """Rank, decrement and the norm that no basis changes, from the rung's own modes."""
    case, dense = CASES["skip"], truth("skip")
    found = run(rung, case.risk(), absolute_damping=0.05).stats
    assert found["gradient_norm"] == pytest.approx(float(dense.mean_gradient.norm()), rel=1e-9)
    eye = torch.eye(len(dense.theta), dtype=torch.float64)
    if rung == "kfac":
        h = factor_loops.dense(case, "curvature", explained(case)) + case.weight_decay * eye
    elif rung == "blocks":
        h = cut(dense.ggn, list(case.risk().layout.layers.values()))
    elif rung == "diagonal":
        h = torch.diag(dense.ggn.diagonal())
    else:
        basis = Eigenbasis.of(kronecker(case.risk(), middle_of(case.risk(), "ggn", generator(0))))
        q = basis.vectors(eye).T
        h = q @ torch.diag((q.T @ dense.ggn @ q).diagonal()) @ q.T
    solved = torch.linalg.solve(h + 0.05 * eye, torch.cat([h, dense.mean_gradient[:, None]], 1))
    assert found["effective_rank"] == pytest.approx(float(solved[:, :-1].trace()), rel=1e-9)
    decrement = float(dense.mean_gradient @ solved[:, -1]) / 2
    assert found["newton_decrement"] == pytest.approx(decrement, rel=1e-9)
    assert found["largest_eigenvalue"] == pytest.approx(float(torch.linalg.eigvalsh(h)[-1]))


@pytest.mark.parametrize("rung", DAMPED)
def test_trap_11_a_warning_off_the_minimum(rung: str):
    """One class only: the gradient is the same everywhere and the decrement above the gap."""
    x = torch.ones(40, 2, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Linear(2, 3).double()
    off = gt.EmpiricalRisk(net, "cross_entropy", (x, torch.zeros(40, dtype=torch.int64)))
    found = run(rung, off)
    assert found.warnings == ("not at a minimum: the Newton decrement is above the predicted gap",)
    assert found.stats["newton_decrement"] > found.value


# Damping, data and numbers of examples.


@pytest.mark.parametrize("rung", [*DAMPED, "leave_one_out"])
def test_damping_of_training_is_one_over_the_time(rung: str):
    risk = CASES["skip"].risk()
    trained = run(rung, Checkpoint(risk, training_time=12.5), damping="training")
    plain = run(rung, risk, absolute_damping=1 / 12.5)
    assert trained.value == plain.value
    assert trained.stats == plain.stats
    assert trained.stats["absolute_damping"] == 0.08  # weight decay comes on top


@pytest.mark.parametrize("rung", [*DAMPED, "leave_one_out"])
def test_damping_of_training_is_refused_without_its_time(rung: str):
    with pytest.raises(gt.InputError, match='damping="training": found a checkpoint without'):
        run(rung, Checkpoint(CASES["mlp"].risk()), damping="training")


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_training_time_is_refused(time: float):
    with pytest.raises(gt.InputError, match=f"training_time: found {time:g}, expected a positive"):
        run("diagonal", Checkpoint(CASES["mlp"].risk(), training_time=time), damping="training")


def test_leave_one_out_without_curvature_in_the_outputs_is_refused():
    """With more parameters than N · C: the sample space has no mode at all."""
    x = torch.ones(3, 8, dtype=torch.float64)
    net = nn.Linear(8, 1).double()
    risk = gt.EmpiricalRisk(net, lambda outputs, targets: outputs[:, 0] * targets, (x, x[:, 0]))
    with pytest.raises(gt.InputError, match="curvature: found zero everywhere"):
        run("leave_one_out", risk)


@pytest.mark.parametrize("rung", [*DAMPED, "leave_one_out"])
@pytest.mark.parametrize("option", ["damping", "absolute_damping"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_an_impossible_damping_is_refused(rung: str, option: str, value: float):
    message = rf"damping: found {value:g}, expected a number of 0 or more"
    with pytest.raises(gt.InputError, match=message):
        run(rung, CASES["scalar"].risk(), **{option: value})


@pytest.mark.parametrize("rung", [*DAMPED, "trace_ratio"])
def test_held_out_data_are_divided_by_the_training_count(rung: str):
    """H and C of 12 held-out examples, a gap for the 50 trained on."""
    held_out = CASES["mlp"].risk()
    own, trained = run(rung, held_out), run(rung, Checkpoint(held_out, num_train=50))
    assert trained.stats["raw_trace"] == pytest.approx(own.stats["raw_trace"], rel=1e-14)
    assert trained.value == pytest.approx(own.value * 12 / 50, rel=1e-14)
    assert trained.stderr == pytest.approx(own.stderr * 12 / 50, rel=1e-12)
    assert trained.stats["num_examples"] == 12
    if rung != "trace_ratio":
        slope = own.stats["slope_log_damping"] * 12 / 50
        assert trained.stats["slope_log_damping"] == pytest.approx(slope, rel=1e-14)


@pytest.mark.parametrize("rung", [*DECOMPOSED, "trace_ratio"])
def test_trap_30_float32_and_float64_agree(rung: str):
    for name in ("conv", "attention", "embedding"):
        single, double = (run(rung, CASES[name].risk(dtype=d)) for d in (torch.float32, None))
        assert single.value == pytest.approx(double.value, rel=1e-3)


@pytest.mark.parametrize("rung", [*DECOMPOSED, "trace_ratio"])
def test_trap_3_weight_decay_is_in_the_curvature_and_in_the_gradients(rung: str):
    """As a penalty written into the loss of each example."""
    case = CASES["mlp"]
    net = case.module

    class Penalized(nn.Module):
        """Outputs with the penalty for a further one, which the loss adds."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            penalty = sum(p.square().sum() for p in self.net.parameters())
            return torch.cat([self.net(x), penalty.expand(len(x), 1)], 1)

    def penalized(outputs: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(outputs[:, :3], targets, reduction="none")
        return loss + 0.1 * outputs[:, 3]

    decayed = gt.EmpiricalRisk(net, "cross_entropy", case.data, weight_decay=0.2)
    written = gt.EmpiricalRisk(Penalized(), penalized, case.data)
    dense = gt.gradient_covariance(written).dense()
    assert torch.allclose(dense, gt.gradient_covariance(decayed).dense(), atol=1e-12)
    if rung in ("exact", "blocks", "diagonal"):  # which know the Hessian, curved by the penalty
        values = [run(rung, risk, curvature="hessian").value for risk in (decayed, written)]
        assert values[1] == pytest.approx(values[0], rel=1e-8)
    plain = run(rung, gt.EmpiricalRisk(net, "cross_entropy", case.data))
    assert run(rung, decayed).value != pytest.approx(plain.value, rel=1e-3)


@pytest.mark.parametrize("rung", ["kfac", "ekfac", "solve"])
def test_trap_9_what_needs_a_semidefinite_curvature_refuses_the_hessian(rung: str):
    with pytest.raises(gt.InputError, match=r"curvature: found 'hessian', expected .*ggn"):
        run(rung, CASES["mlp"].risk(), curvature="hessian")


@pytest.mark.parametrize("rung", ["blocks", "kfac", "ekfac", "solve"])
def test_trap_7_one_draw_of_targets_has_an_unknown_error(rung: str):
    risk = CASES["mlp"].risk()
    first = run(rung, risk, curvature="sampled_fisher")
    assert math.isnan(first.stderr)
    assert first.value == run(rung, risk, curvature="sampled_fisher").value
    assert first.value != run(rung, risk, seed=1, curvature="sampled_fisher").value


def test_both_passes_of_ekfac_see_the_same_targets():
    """Wherever the generator stands: as with the dense sampled Fisher in the factors' basis."""
    risk, state = CASES["mlp"].risk(), generator(0)
    torch.rand(3, generator=state)
    start = state.get_state()
    found = measures.find("tic.ekfac")(
        Checkpoint(risk), curvature="sampled_fisher", absolute_damping=0.1, generator=state
    )
    state.set_state(start)
    basis = Eigenbasis.of(kronecker(risk, middle_of(risk, "sampled_fisher", state)))
    state.set_state(start)
    h = sampled_fisher(risk, generator=state).dense()
    q = basis.vectors(torch.eye(risk.num_params, dtype=torch.float64)).T
    c = (q.T @ truth("mlp").covariance @ q).diagonal()
    wanted = float((c / ((q.T @ h @ q).diagonal() + 0.1)).sum()) / 12
    assert found.value == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("rung", DAMPED)
def test_no_curvature_at_all_is_refused(rung: str):
    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum(1)

    risk = gt.EmpiricalRisk(CASES["linear net"].module, flat, CASES["linear net"].data)
    with pytest.raises(gt.InputError, match="curvature: found zero everywhere"):
        run(rung, risk)


@pytest.mark.parametrize("rung", [*DAMPED, "trace_ratio"])
def test_trap_17_dead_parameters_add_nothing(rung: str):
    case, options = CASES["unused"], {} if rung == "trace_ratio" else {"absolute_damping": 0.01}
    net = case.module
    whole = run(rung, case.risk(weight_decay=0.0), **options)
    net.spare.requires_grad_(False)
    without = run(rung, gt.EmpiricalRisk(net, "cross_entropy", case.data), **options)
    # Of other numbers of parameters other signs are drawn.
    spread = 4 * math.hypot(whole.stderr, without.stderr)
    assert whole.value == pytest.approx(without.value, rel=1e-10, abs=spread)
    assert (spread > 0) == (rung == "solve")
    assert whole.stats["num_params"] - without.stats["num_params"] == 8


def test_trap_39_too_large_a_layer_is_refused_before_anything_is_computed():
    risk = CASES["mlp"].risk()  # layers of 42, 40 and 18 parameters
    message = r"tic\.blocks: found 42 parameters, which take about .* GiB, expected at most"
    with pytest.raises(gt.InputError, match=message):
        run("blocks", risk, max_params=41)
    assert run("blocks", risk, max_params=42).status == "ok"


def test_trap_39_too_large_a_gram_matrix_is_refused_before_anything_is_computed():
    risk = CASES["mlp"].risk()
    with pytest.raises(gt.InputError, match=r"tic\.kernel: found 12 examples × 3 outputs"):
        run("kernel", risk, max_size=35)
    assert run("kernel", risk, max_size=36).status == "ok"
