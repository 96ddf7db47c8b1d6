"""Top eigenvalues and traces against dense matrices."""

import math

import numpy as np
import pytest
import torch
from cases import CASES, Case, truth
from scipy import stats

import gentheory as gt
from gentheory.checkpoint import Checkpoint
from gentheory.measures import spectra
from gentheory.seeds import generator


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
def test_trap_25_traces_are_calibrated(curvature: str):
    expected = getattr(truth("skip"), curvature).trace().item()
    checkpoint = Checkpoint(CASES["skip"].risk(batch_size=9))
    found = [
        spectra.trace(checkpoint, curvature=curvature, num_probes=32, generator=generator(s))
        for s in range(60)
    ]
    scores = [(e.value - expected) / e.stderr for e in found]
    assert stats.kstest(scores, stats.t(31).cdf).pvalue > 0.01
    assert all(e.stats == {"num_samples": 32, "curvature": curvature} for e in found)


def test_nan_has_failed():
    net = CASES["mlp"].module
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
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
        ("trace", {"num_probes": 1}, "num_probes: found 1, expected at least 2"),
        ("trace", {"curvature": "kfac"}, "curvature: found 'kfac'"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, object], message: str):
    with pytest.raises(gt.InputError, match=message):
        getattr(spectra, name)(Checkpoint(CASES["mlp"].risk()), generator=generator(0), **options)
