"""The tangent kernel as an operator against dense Jacobians and against the factors' matrix."""

import pytest
import torch
from cases import CASES, Case, truth
from oracle import relative_error

from gentheory.curvature import tangent
from gentheory.curvature.tangent import tangent_kernel
from gentheory.factors.gram import gram
from gentheory.linalg import largest
from gentheory.seeds import generator


def test_trap_33_the_operator_is_the_dense_kernel(case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tangent, "block_width", lambda risk: 5)
    jacobian = truth(case.name).jacobians.flatten(0, 1)
    operator = tangent_kernel(case.risk(batch_size=4))
    dense = operator.dense()
    assert relative_error(dense, jacobian @ jacobian.T) < 1e-11
    values = torch.linalg.eigvalsh(dense)
    assert values[0] > -1e-12 * values[-1]  # positive semidefinite


def test_its_largest_eigenvalue_is_that_of_the_factors_matrix():
    risk = CASES["conv"].risk()
    size = risk.num_examples * risk.num_outputs
    top = largest(tangent_kernel(risk), 1, rtol=1e-8, generator=generator(0)).values[0]
    wanted = torch.linalg.eigvalsh(gram(risk).reshape(size, size))[-1]
    assert float(top) == pytest.approx(float(wanted), rel=1e-7)
