"""The Gram matrix and the GGN's spectrum in sample space against dense Jacobians."""

import pytest
import torch
from cases import Case

from gentheory.curvature.influence import influence
from gentheory.curvature.moments import dense_moments, jacobians
from gentheory.examples import Examples
from gentheory.factors.gram import gram
from gentheory.factors.sample_space import SampleSpace


def jacobian_of(case: Case) -> torch.Tensor:
    return torch.cat([jacobian for jacobian, _, _ in jacobians(case.risk())])


def test_gram(case: Case):
    jacobian = jacobian_of(case)
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
    risk, jacobian = case.risk(), jacobian_of(case)
    h = dense_moments(risk, "ggn", centred=False, generator=torch.Generator()).curvature
    eye = torch.eye(risk.num_params, dtype=torch.float64)
    solved = torch.linalg.solve(h + ridge * eye, jacobian.flatten(0, 1).T).T
    wanted = torch.einsum("icp,idp->icd", jacobian, solved.view_as(jacobian)) / len(jacobian)
    scale = float(wanted.abs().max())
    by_parameters = influence(risk, *torch.linalg.eigh(h), ridge)
    by_samples = SampleSpace.of(risk).influence(ridge + risk.weight_decay)
    torch.testing.assert_close(by_parameters, wanted, rtol=0, atol=1e-9 * scale)
    torch.testing.assert_close(by_samples, wanted, rtol=0, atol=1e-9 * scale)


def test_the_spectrum_and_the_modes(case: Case):
    risk, jacobian = case.risk(), jacobian_of(case)
    space = SampleSpace.of(risk)
    h = dense_moments(risk, "ggn", centred=False, generator=torch.Generator()).curvature
    g = h - risk.weight_decay * torch.eye(len(h), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(g)
    count = len(space.eigenvalues)
    assert count <= min(len(values), jacobian.shape[0] * jacobian.shape[1])
    torch.testing.assert_close(
        space.eigenvalues, values[-count:], rtol=0, atol=1e-12 * float(values[-1])
    )
    assert bool((values[: len(values) - count].abs() <= 1e-10 * values[-1]).all())
    # Σ σ_k (J v_k)(J v_k)ᵀ does not depend on the choice of vectors within an eigenspace.
    rotated = jacobian @ vectors
    wanted = torch.einsum("icp,p,idp->icd", rotated, values, rotated)
    found = torch.einsum("ick,k,idk->icd", space.modes, space.eigenvalues, space.modes)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * float(wanted.abs().max()))
    x = torch.linspace(-1, 1, len(h), dtype=torch.float64)
    along = float((space.eigenvalues * space.coordinates(x).square()).sum())
    assert along == pytest.approx(float(x @ g @ x), rel=1e-9)
