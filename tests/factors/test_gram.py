"""The tangent kernel in its three forms, between data sets and in pieces, against Jacobians."""

import pytest
import torch
from cases import CASES, Case, truth

import gentheory as gt
from gentheory.factors import gram as module
from gentheory.factors.gram import gram, output_grams, trace_gram


def full(case: Case) -> torch.Tensor:
    jacobian = truth(case.name).jacobians
    return torch.einsum("icp,jdp->icjd", jacobian, jacobian)


def forms(kernel: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All outputs, each with itself, their sum."""
    own = kernel.diagonal(dim1=1, dim2=3).movedim(2, 0)
    return kernel, own, own.sum(0)


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11 * scale)


def test_trap_33_full_by_output_and_trace(case: Case):
    wanted = forms(full(case))
    for batch_size in (3, 512):
        risk = case.risk(batch_size=batch_size)
        for form, expected in zip((gram, output_grams, trace_gram), wanted, strict=True):
            close(form(risk), expected)


def test_between_two_data_sets(case: Case):
    inputs, targets = case.data
    first, second = (
        gt.EmpiricalRisk(case.module, case.loss, (inputs[part], targets[part]), batch_size=3)
        for part in (slice(0, 4), slice(4, None))
    )
    kernel = full(case)[:4, :, 4:]
    for form, expected in zip((gram, output_grams, trace_gram), forms(kernel), strict=True):
        close(form(first, second), expected)


def test_trap_39_panels_within_a_memory_budget(case: Case, monkeypatch: pytest.MonkeyPatch):
    """So little that factors of one or two examples fit beside the matrix."""
    monkeypatch.setattr(module, "_BLOCK", 2)
    risk = case.risk(batch_size=4)
    _, one = next(module._placed(risk, slice(0, 1)))
    panel = 2 * 2 * module._size(one)
    for form, expected in zip((gram, output_grams, trace_gram), forms(full(case)), strict=True):
        budget = 8 * expected.numel() + panel
        assert len(module._panels(risk, panel)) == (risk.num_examples + 1) // 2
        close(form(risk, max_memory=budget), expected)
        close(form(risk, case.risk(batch_size=3), max_memory=budget), expected)


def test_trap_39_a_matrix_that_does_not_fit_is_refused():
    risk = CASES["mlp"].risk()  # 12 examples, 3 outputs
    refusal = r"tangent kernel: found 12 × 3 × 12 × 3 numbers, which take .* GiB, expected at most"
    with pytest.raises(gt.InputError, match=refusal):
        gram(risk, max_memory=8 * 36 * 36 - 1)
    assert trace_gram(risk, max_memory=8 * 144 + 1).shape == (12, 12)
