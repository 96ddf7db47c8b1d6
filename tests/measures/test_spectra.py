"""Spectra against dense matrices."""

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from cases import CASES, Case, operator_of, truth
from scipy import stats

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.factors.traces import ggn_traces
from gentheory.measures import spectra
from gentheory.seeds import generator

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_top_is_the_largest_dense_eigenvalue(case: Case, curvature: str):
    expected = np.linalg.eigvalsh(getattr(truth(case.name), curvature).numpy())[::-1]
    checkpoint = Checkpoint(case.risk(batch_size=12))
    found = spectra.top(checkpoint, k=2, curvature=curvature, rtol=1e-5, generator=generator(0))
    assert found.value == pytest.approx(expected[0], rel=1e-9)  # the error is quadratic
    assert found.stats["eigenvalues"] == pytest.approx(expected[:2], abs=1e-5 * expected[0])
    assert found.warnings == ()
    # An eigenvalue lies within the error bar.
    assert abs(found.value - expected[0]) <= found.stderr + 1e-13 * expected[0]


def test_top_warns_where_it_did_not_converge():
    found = spectra.top(
        Checkpoint(CASES["mlp"].risk()), k=3, rtol=1e-12, max_steps=5, generator=generator(0)
    )
    assert found.warnings == ("not converged to 1e-12 in 5 steps",)
    assert found.stderr > 0
    assert max(found.stats["residuals"]) > 1e-12 * found.value


def test_top_of_two_classes_under_mse_is_double():
    """Outputs that share nothing: the GGN has each eigenvalue once for each of them."""
    x = torch.randn(20, 4, generator=generator("double"), dtype=torch.float64)
    net = torch.nn.Linear(4, 2, bias=False).double()
    risk = gt.EmpiricalRisk(net, "mse", (x, torch.zeros(20, 2).double()))
    block = np.linalg.eigvalsh((x.T @ x / 20).numpy())[::-1]
    found = spectra.top(Checkpoint(risk), k=4, rtol=1e-10, generator=generator(0))
    assert found.stats["eigenvalues"] == pytest.approx(np.repeat(block[:2], 2), rel=1e-9)


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_bottom_is_the_smallest_dense_eigenvalue(case: Case, curvature: str):
    """Trap 29: with its sign, and not the largest in size."""
    expected = np.linalg.eigvalsh(getattr(truth(case.name), curvature).numpy())
    checkpoint = Checkpoint(case.risk(batch_size=12))
    found = spectra.bottom(checkpoint, k=2, curvature=curvature, rtol=1e-5, generator=generator(0))
    scale = np.abs(expected).max()
    assert found.stats["eigenvalues"] == pytest.approx(expected[:2], abs=1e-5 * scale)
    assert abs(found.value - expected[0]) <= found.stderr + 1e-13 * scale


def test_trap_39_a_budget_restarts_or_refuses():
    checkpoint = Checkpoint(CASES["mlp"].risk())
    free = spectra.top(checkpoint, k=3, generator=generator(0))
    row = 8 * checkpoint.risk.num_params
    tight = spectra.top(checkpoint, k=3, max_memory=25 * row, generator=generator(0))
    assert tight.stats["eigenvalues"] == pytest.approx(free.stats["eigenvalues"], rel=1e-4)
    with pytest.raises(gt.InputError, match=r"max_memory: found \d+ bytes for 3 eigenvectors"):
        spectra.top(checkpoint, k=3, max_memory=20 * row, generator=generator(0))
    with pytest.raises(gt.InputError, match=r"max_memory: found 64 bytes for 40 steps"):
        spectra.density(checkpoint, max_memory=64, generator=generator(0))


def test_ggn_traces_are_exact(case: Case):
    found = spectra.trace(Checkpoint(case.risk()), curvature="ggn", generator=generator(0))
    assert found.value == pytest.approx(truth(case.name).ggn.trace().item(), rel=1e-10)
    assert found.stderr == pytest.approx(0, abs=1e-13 * found.value)


@pytest.mark.parametrize("name", [case.name for case in CASES.values() if case.piecewise])
def test_traces_of_piecewise_linear_nets_are_exact(name: str):
    """Each layer's diagonal block of Hessian and GGN is the same."""
    found = spectra.trace(Checkpoint(CASES[name].risk()), generator=generator(0))
    assert found.value == pytest.approx(truth(name).hessian.trace().item(), rel=1e-10)
    assert found.stderr == pytest.approx(0, abs=1e-13 * found.value)


def test_traces_by_hutch_pp_and_xtrace_span_the_space():
    """Trap 26: with as many products as dimensions both are exact."""
    dense = truth("scalar")
    for find in (spectra.trace_hutch_pp, spectra.trace_xtrace):
        found = find(Checkpoint(CASES["scalar"].risk()), generator=generator(0))
        assert found.value == pytest.approx(dense.hessian.trace().item(), rel=1e-10)
        assert found.stderr == 0


MEASURES = {
    "trace": ("hessian", {"num_probes": 32}),
    "trace_hutch_pp": ("ggn", {"num_products": 60}),
    "trace_xtrace": ("hessian", {"num_products": 40}),
    "effective_dimension": ("ggn", {"max_size": 0, "num_probes": 12, "num_steps": 40}),
}


@pytest.fixture
def dense_operators(monkeypatch: pytest.MonkeyPatch) -> oracle.Dense:
    """The matrices of a net in place of its products: two hundred runs would take minutes."""
    dense = truth("gelu residual")
    rest = operator_of(dense.hessian - dense.ggn)
    monkeypatch.setitem(spectra._OPERATORS, "hessian", lambda _: operator_of(dense.hessian))
    monkeypatch.setitem(spectra._OPERATORS, "ggn", lambda _: operator_of(dense.ggn))
    monkeypatch.setattr(spectra, "residual_curvature", lambda _: rest)
    exact = ggn_traces(CASES["gelu residual"].risk())
    monkeypatch.setattr(spectra, "ggn_traces", lambda _: exact)
    return dense


@pytest.mark.parametrize("name", MEASURES)
def test_trap_25_two_hundred_seeds_give_standard_scores(name: str, dense_operators: oracle.Dense):
    curvature, options = MEASURES[name]
    matrix = getattr(dense_operators, curvature)
    e = np.abs(np.linalg.eigvalsh(matrix.numpy()))
    soft_rank = float((e / (e + 0.02 * e.max())).sum())
    expected = soft_rank if name == "effective_dimension" else matrix.trace().item()
    subject = Checkpoint(CASES["gelu residual"].risk())
    if name == "effective_dimension":
        options = {"damping": 0.02, **options}
    options = {"curvature": curvature, **options}
    found = [
        getattr(spectra, name)(subject, generator=generator(name, s), **options) for s in range(200)
    ]
    scores = np.array([(e.value - expected) / e.stderr for e in found])
    freedom = found[0].stats["num_samples"] - 1
    assert stats.kstest(scores, stats.t(freedom).cdf).pvalue > 0.01
    values = np.array([e.value for e in found])
    assert abs(values.mean() - expected) < 3 * values.std() / math.sqrt(len(values))


def test_density_has_the_spectrum_of_the_hessian(dense_operators: oracle.Dense):
    dense, subject = dense_operators.hessian, Checkpoint(CASES["gelu residual"].risk())
    options = {"num_probes": 100, "num_steps": len(dense), "width": 0.05}
    found = spectra.density(subject, generator=generator(0), **options)
    grid = torch.tensor(found.stats["grid"], dtype=torch.float64)
    density, band = (torch.tensor(found.stats[name]) for name in ("density", "band"))
    values = torch.linalg.eigvalsh(dense)
    exact = (-0.5 * ((grid[:, None] - values) / 0.05).square()).exp().mean(1)
    exact = exact / (0.05 * math.sqrt(2 * math.pi))
    assert torch.trapezoid(density.double(), grid).item() == pytest.approx(1, abs=1e-6)
    scores = ((density - exact) / band)[exact > 1e-3]
    assert scores.abs().mean() < 2
    negative = (values.clamp(max=0).abs().sum() / values.abs().sum()).item()
    assert abs(found.value - negative) < 4 * found.stderr
    assert found.stats["width"] == 0.05


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
@pytest.mark.parametrize("name", ["tied modules", "attention", "rows", "scalar", "unused", "conv"])
def test_layers_are_diagonal_blocks(name: str, curvature: str):
    case = CASES[name]
    matrix, risk = getattr(truth(name), curvature), case.risk(batch_size=12)
    found = spectra.by_layer(
        Checkpoint(risk), curvature=curvature, num_probes=400, rtol=1e-6, generator=generator(0)
    )
    owners = [name.rpartition(".")[0] or "." for name in risk.layout.names]
    assert found.stats["layers"] == list(dict.fromkeys(owners))
    traces, tops = [], []
    for layer in found.stats["layers"]:
        named = zip(risk.layout.names, owners, strict=True)
        parts = [risk.layout.slices[name] for name, owner in named if owner == layer]
        block = matrix[parts[0].start : parts[-1].stop, parts[0].start : parts[-1].stop]
        traces.append(block.trace().item())
        tops.append(np.linalg.eigvalsh(block.numpy())[-1])
    scale = max(map(abs, traces))
    # As many probes as parameters: each block's trace is summed exactly.
    assert found.stats["traces"] == pytest.approx(traces, rel=1e-10, abs=1e-10 * scale)
    assert found.stats["top_eigenvalues"] == pytest.approx(tops, rel=1e-6, abs=1e-6 * max(tops))
    assert found.value == pytest.approx(scale / np.abs(traces).sum(), rel=1e-9)


@pytest.mark.parametrize("name", ["mlp", "skip", "conv", "attention", "layer norm", "unused"])
def test_classes_are_measured_on_their_own_examples(name: str):
    case, (inputs, targets) = CASES[name], CASES[name].data
    found = spectra.by_class(Checkpoint(case.risk(batch_size=2)), rtol=1e-6, generator=generator(0))
    assert found.stats["classes"] == targets.unique().tolist()
    for place, label in enumerate(found.stats["classes"]):
        chosen = targets == label
        dense = oracle.dense(
            case.module,
            case.values,
            inputs[chosen],
            targets[chosen],
            weight_decay=case.weight_decay,
            likelihood=None,
        )
        values = np.linalg.eigvalsh(dense.hessian.numpy())
        scale = np.abs(values).max()
        assert found.stats["smallest"][place] == pytest.approx(values[0], abs=1e-6 * scale)
        assert found.stats["largest"][place] == pytest.approx(values[-1], abs=1e-6 * scale)
    ratios = np.abs(found.stats["smallest"]) / np.array(found.stats["largest"])
    assert found.value == pytest.approx(ratios.max(), rel=1e-12)
    last = found.stats["classes"][-1]
    one = spectra.by_class(
        Checkpoint(case.risk(batch_size=2)), classes=[last], rtol=1e-6, generator=generator(0)
    )
    assert one.stats["classes"] == [last]
    assert one.value == pytest.approx(ratios[-1], rel=1e-3)


@pytest.mark.parametrize("measure", [spectra.by_class, spectra.outliers])
@pytest.mark.parametrize("name", ["linear net", "rows"])
def test_targets_that_are_no_classes_are_refused(measure: Any, name: str):
    with pytest.raises(gt.InputError, match=r"found targets of torch.float64 \[N, N\]"):
        measure(Checkpoint(CASES[name].risk()), generator=generator(0))


@pytest.mark.parametrize("name", ["mlp", "skip", "conv", "tied modules", "dropout", "frozen"])
def test_outliers_are_papyans_between_class_part(name: str):
    """Example by example, from the definition."""
    case, dense, (inputs, targets) = CASES[name], truth(name), CASES[name].data
    count, classes = dense.jacobians.shape[:2]
    with torch.no_grad():
        outputs = case.module.eval()(inputs)
    eye = torch.eye(classes, dtype=torch.float64)
    softmax = case.loss == "cross_entropy"
    p = outputs.softmax(1) if softmax else torch.full_like(outputs, 2 / classes)
    between = torch.zeros_like(dense.ggn)
    own = cross = 0.0
    for c in targets.unique():
        mine = [i for i in range(count) if targets[i] == c]
        rest = (p[i, k] for i in mine for k in range(classes) if k != c)
        weight = sum(rest) / count
        groups = []
        for k in range(classes):
            shifts = p if softmax else 0 * p
            rows = [p[i, k] / count * dense.jacobians[i].T @ (eye[k] - shifts[i]) for i in mine]
            groups.append((sum(p[i, k] for i in mine) / count, sum(rows), k))
        mean = sum(total for _, total, k in groups if k != c) / weight
        between += weight * torch.outer(mean, mean)
        for w, total, k in groups:
            if k == c:
                own += float(total @ total / w)
            else:
                cross += float(w * (total / w - mean).square().sum())
    trace = (dense.ggn.trace() - case.weight_decay * len(dense.theta)).item()
    plain = dense.ggn - case.weight_decay * torch.eye(len(dense.theta), dtype=torch.float64)
    found = spectra.outliers(Checkpoint(case.risk()), rtol=1e-7, generator=generator(0))
    assert found.value == pytest.approx((between.trace() / trace).item(), rel=1e-10)
    assert found.stats["own"] == pytest.approx(own / trace, rel=1e-8)
    assert found.stats["cross"] == pytest.approx(cross / trace, rel=1e-8)
    for key, matrix in (("between", between), ("rest", plain - between)):
        values = torch.linalg.eigvalsh(matrix).flip(0)[: len(found.stats[key])]
        assert found.stats[key] == pytest.approx(values.tolist(), abs=1e-7 * trace)
    shares = found.value + sum(found.stats[key] for key in ("own", "cross", "within"))
    assert shares == pytest.approx(1, rel=1e-12)
    assert found.stats["within"] > -1e-12


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_trap_9_soft_ranks_take_eigenvalues_by_their_size(case: Case, curvature: str):
    e = np.linalg.eigvalsh(getattr(truth(case.name), curvature).numpy())
    found = spectra.effective_dimension(
        Checkpoint(case.risk()), curvature=curvature, damping=0.01, generator=generator(0)
    )
    size = np.abs(e)
    assert found.value == pytest.approx((size / (size + 0.01 * size.max())).sum(), rel=1e-9)
    assert found.stderr == 0
    share = -e.clip(max=0).sum() / size.sum()
    assert found.stats["negative_mass"] == pytest.approx(share, abs=1e-10)


@pytest.mark.parametrize("name", ["mlp", "gelu residual", "twice", "unused"])
def test_the_soft_rank_is_the_same_in_sample_space(name: str):
    """Unless its matrix is larger, the Gram matrix of the examples has the same eigenvalues."""
    case = CASES[name]
    size = case.count * case.num_classes
    found = [
        spectra.effective_dimension(
            Checkpoint(case.risk()), max_size=m, absolute_damping=0.05, generator=generator(0)
        )
        for m in (size, 1500)
    ]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-9)
    assert [e.stderr for e in found] == [0, 0]


def test_soft_rank_is_tic_with_the_curvature_for_the_covariance():
    risk = CASES["mlp"].risk()
    options = {"tic.exact": {"damping": 0.02}, "spectra.effective_dimension": {"damping": 0.02}}
    found = gt.measure(risk, list(options), options=options)
    rank = found["tic.exact"].stats["effective_rank"]
    assert found["spectra.effective_dimension"].value == pytest.approx(rank, rel=1e-10)


def test_trap_10_the_scale_of_the_loss_does_not_change_the_soft_rank():
    case = CASES["mlp"]
    values = []
    for scale in (1e-8, 1.0):
        loss = lambda f, y, s=scale: s * case.values(f, y)  # noqa: E731
        risk = gt.EmpiricalRisk(case.module, loss, case.data)
        values.append(spectra.effective_dimension(Checkpoint(risk), generator=generator(0)).value)
    assert values[0] == pytest.approx(values[1], rel=1e-8)


def test_loss_landscapes_eigenvalues_scale_with_the_batches_and_ours_do_not():
    tops = [
        spectra.top(Checkpoint(CASES["mlp"].risk(batch_size=b)), generator=generator(0)).value
        for b in (12, 5, 1)
    ]
    assert tops == pytest.approx([tops[0]] * 3, rel=1e-9)


def test_pyhessian_crashes_on_unused_parameters_and_we_do_not():
    found = gt.measure(CASES["unused"].risk(), ["spectra.trace", "spectra.density", "spectra.top"])
    assert [estimate.status for estimate in found.values()] == ["ok"] * 3
    weights = torch.tensor(found["spectra.density"].stats["weights"])
    assert (weights >= 0).all()  # and its weights are complex


def test_trap_30_float32_agrees_with_float64():
    names = [name for name in gt.measures.names() if name.startswith("spectra.")]
    single, double = (
        gt.measure(CASES["mlp"].risk(dtype=dtype), names) for dtype in (torch.float32, None)
    )
    for name in names:
        assert single[name].value == pytest.approx(double[name].value, rel=2e-3), name


def test_nan_has_failed():
    net = CASES["mlp"].module
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
    net[0].weight.requires_grad_(False)
    risk = gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)
    for estimate in gt.measure(risk, ["spectra.top", "spectra.trace"]).values():
        assert estimate.status == "failed"
        assert math.isnan(estimate.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("top", {"k": 0}, "spectra.top.k: found 0, expected at least 1"),
        ("top", {"k": 4, "max_steps": 3}, "max_steps: found 3, expected at least k = 4"),
        ("top", {"curvature": "fisher"}, "curvature: found 'fisher', expected 'hessian' or 'ggn'"),
        ("bottom", {"k": 0}, "spectra.bottom.k: found 0, expected at least 1"),
        ("trace", {"num_probes": 1}, "trace.num_probes: found 1, expected at least 2"),
        ("by_layer", {"num_probes": 1}, "by_layer.num_probes: found 1, expected at least 2"),
        ("density", {"num_probes": 1}, "density.num_probes: found 1, expected at least 2"),
        ("trace_hutch_pp", {"num_products": 5}, "hutch_pp.num_products: found 5, expected at le"),
        ("trace_xtrace", {"num_products": 3}, "xtrace.num_products: found 3, expected at least 4"),
        ("effective_dimension", {"damping": 0.0}, "damping: found 0.0, expected more than 0"),
        ("by_class", {"classes": [99]}, r"classes: found \[99\], expected some of 0, 1"),
        ("by_class", {"curvature": "kfac"}, "curvature: found 'kfac'"),
        ("trace", {"curvature": "kfac"}, "curvature: found 'kfac'"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, object], message: str):
    with pytest.raises(gt.InputError, match=message):
        getattr(spectra, name)(Checkpoint(CASES["mlp"].risk()), generator=generator(0), **options)
