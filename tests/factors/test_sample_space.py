"""The Gram matrix and the GGN's spectrum in sample space against dense Jacobians."""

import pytest
import torch
from cases import CASES, Case, truth

import gentheory as gt
from gentheory import left_out
from gentheory.examples import Examples
from gentheory.factors.gram import gram
from gentheory.factors.sample_space import SampleSpace


def test_gram(case: Case):
    jacobian = truth(case.name).jacobians
    wanted = torch.einsum("icp,jdp->icjd", jacobian, jacobian)
    scale = float(wanted.abs().max())
    for batch_size in (3, 512):
        found = gram(case.risk(batch_size=batch_size))
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11 * scale)


def test_examples(case: Case):
    risk = case.risk(batch_size=3)
    examples = Examples.of(risk)
    inputs, targets = next(case.risk(batch_size=512).batches())
    outputs = risk.outputs(risk.theta, inputs)
    assert torch.equal(examples.targets, targets)
    torch.testing.assert_close(examples.outputs, outputs, rtol=0, atol=1e-12)
    for i in range(len(outputs)):

        def loss(f: torch.Tensor, i: int = i) -> torch.Tensor:
            return risk.loss.values(f[None], targets[i : i + 1])[0]

        f = outputs[i].detach()
        r = torch.autograd.functional.jacobian(loss, f)
        middle = torch.autograd.functional.hessian(loss, f)
        torch.testing.assert_close(examples.residuals[i], r, rtol=0, atol=1e-12)
        torch.testing.assert_close(examples.middles[i], middle, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ridge", [1e-4, 1e-1])
def test_both_spaces_give_the_same_influence(case: Case, ridge: float):
    """A_i = J_i (H + ridge)⁻¹ J_iᵀ / N by parameters, by samples, and by a dense solve."""
    risk, dense = case.risk(), truth(case.name)
    h = dense.ggn + ridge * torch.eye(len(dense.ggn), dtype=torch.float64)
    jacobian = dense.jacobians
    wanted = torch.stack([j @ torch.linalg.solve(h, j.T) for j in jacobian]) / len(jacobian)
    scale, decayed = float(wanted.abs().max()), ridge + risk.weight_decay
    by_parameters = left_out._by_parameters(risk).influence(decayed)
    by_samples = SampleSpace.of(risk).output_modes.influence(decayed)
    chosen = left_out.output_modes(risk).influence(decayed)
    for found in (by_parameters, by_samples, chosen):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * scale)


def test_the_smaller_space_is_chosen():
    """100 parameters, 12 · 3 outputs: samples; with the limit between the two, the same."""
    few, many = CASES["mlp"].risk(), CASES["scalar"].risk()
    assert left_out.output_modes(few).own is not None  # modes of the samples leave some out
    assert many.num_params < 27
    assert left_out.output_modes(many).own is None
    assert left_out.output_modes(many) is left_out.output_modes(many)  # computed once
    with pytest.raises(gt.InputError, match=r"tic\.leave_one_out: found 12 examples × 3 outputs"):
        left_out.output_modes(CASES["mlp"].risk(), max_size=35)


def test_the_spectrum_and_the_modes(case: Case):
    risk, dense = case.risk(), truth(case.name)
    space = SampleSpace.of(risk)
    eigenvalues, modes = space.output_modes.eigenvalues, space.output_modes.modes
    g = dense.ggn - risk.weight_decay * torch.eye(len(dense.ggn), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(g)
    count = len(eigenvalues)
    assert count <= min(len(values), dense.jacobians.shape[0] * dense.jacobians.shape[1])
    torch.testing.assert_close(eigenvalues, values[-count:], rtol=0, atol=1e-12 * float(values[-1]))
    assert bool((values[: len(values) - count].abs() <= 1e-10 * values[-1]).all())
    # Σ σ_k (J v_k)(J v_k)ᵀ does not depend on the choice of vectors within an eigenspace.
    rotated = dense.jacobians @ vectors
    wanted = torch.einsum("icp,p,idp->icd", rotated, values, rotated)
    found = torch.einsum("ick,k,idk->icd", modes, eigenvalues, modes)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    x = torch.linspace(-1, 1, len(g), dtype=torch.float64)
    along = float((eigenvalues * space.coordinates(x).square()).sum())
    assert along == pytest.approx(float(x @ g @ x), rel=1e-9)
