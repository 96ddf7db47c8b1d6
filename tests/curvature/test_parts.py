"""Parts of the curvature: beside the GGN, by layers, by classes; against dense matrices."""

import pytest
import torch
from cases import CASES, Case, operator_of, truth
from oracle import relative_error

import gentheory as gt
from gentheory import losses
from gentheory.curvature import ggn
from gentheory.curvature.blocks import block_traces, diagonal_block, rescaled_block
from gentheory.curvature.classes import beside_class_means, by_class, class_means
from gentheory.curvature.residual import residual_curvature
from gentheory.factors.traces import ggn_traces
from gentheory.seeds import generator


def test_residual_curvature_is_hessian_minus_ggn(case: Case):
    dense = truth(case.name)
    found = residual_curvature(case.risk()).dense()
    scale = dense.hessian.abs().max()
    assert (found - (dense.hessian - dense.ggn)).abs().max() <= 1e-10 * scale


def test_residual_curvature_vanishes_where_the_data_are_interpolated():
    net, x = CASES["mlp"].module.eval(), CASES["mlp"].data[0]
    with torch.no_grad():
        risk = gt.EmpiricalRisk(net, "mse", (x, net(x)))
    assert residual_curvature(risk).dense().abs().max() < 1e-14
    assert ggn(risk).dense().abs().max() > 1e-3


def test_ggn_traces_are_those_of_each_parameter(case: Case):
    dense, risk = truth(case.name), case.risk()
    diagonal = dense.ggn.diagonal() - case.weight_decay
    found = ggn_traces(risk)
    assert list(found) == list(risk.layout.names)
    expected = torch.stack([diagonal[part].sum() for part in risk.layout.slices.values()])
    assert relative_error(torch.stack(list(found.values())), expected) < 1e-10


def test_layers_cover_theta_once(case: Case):
    layout = case.risk().layout
    parts = list(layout.layers.values())
    covered = [index for part in parts for index in range(part.start, part.stop)]
    assert covered == list(range(layout.size))


def test_diagonal_blocks_and_their_traces():
    matrix = torch.arange(49, dtype=torch.float64).reshape(7, 7)
    matrix = matrix + matrix.T
    matrix[2:5, 2:5] = 0
    parts = [slice(0, 2), slice(2, 5), slice(5, 7)]
    operator = operator_of(matrix)
    for part in parts:
        assert torch.equal(diagonal_block(operator, part).dense(), matrix[part, part])
    found = block_traces(operator, parts, num_probes=4, generator=generator(0))
    exact = [matrix[part, part].trace().item() for part in parts]
    assert found.tolist() == [exact] * 4  # zero, or small enough to be summed


def test_a_block_rescaled_by_the_rows_of_a_weight():
    stream = generator("rescaled")
    matrix = torch.randn(17, 17, generator=stream, dtype=torch.float64)
    weight = torch.randn(3, 4, generator=stream, dtype=torch.float64)
    matrix, part = matrix + matrix.T, slice(2, 14)
    found = rescaled_block(operator_of(matrix), part, weight)
    turn = torch.kron(weight, torch.eye(4, dtype=torch.float64))  # [12, 16]
    torch.testing.assert_close(found.dense(), turn.T @ matrix[part, part] @ turn)
    pairs = matrix[part, part].reshape(3, 4, 3, 4)
    wanted = torch.einsum("sm,tm,sktk->", weight, weight, pairs)
    assert found.dense().trace().item() == pytest.approx(wanted.item(), rel=1e-12)


def test_blocks_do_not_disturb_each_other():
    """Whatever lies outside the blocks adds no variance to their traces."""
    size = 80
    matrix = torch.randn(size, size, generator=generator("blocks"), dtype=torch.float64)
    matrix = matrix + matrix.T
    parts = [slice(0, 40), slice(40, 80)]
    for part in parts:
        matrix[part, part] = torch.diag(torch.arange(40, dtype=torch.float64))
    found = block_traces(operator_of(matrix), parts, num_probes=3, generator=generator(0))
    assert found.tolist() == [[780.0, 780.0]] * 3


@pytest.mark.parametrize("name", ["mlp", "skip", "twice", "frozen", "embedding"])
def test_what_is_beside_the_class_means_is_semidefinite(name: str):
    risk = CASES[name].risk()
    means = class_means(risk, "test")
    rest = beside_class_means(risk, means).dense()
    between = means.weighted.T @ means.weighted
    plain = truth(name).ggn - CASES[name].weight_decay * torch.eye(len(rest), dtype=rest.dtype)
    assert relative_error(rest + between, plain) < 1e-10
    assert torch.linalg.eigvalsh((rest + rest.T) / 2)[0] > -1e-12 * plain.trace()


def test_trap_4_classes_have_means_of_their_own():
    case = CASES["conv"]
    whole = case.risk(batch_size=2)
    found = dict(by_class(whole, "test"))
    targets = case.data[1]
    assert list(found) == targets.unique().tolist()
    total = 0.0
    for label, part in found.items():
        chosen = targets == label
        assert part.num_examples == int(chosen.sum())
        alone = gt.EmpiricalRisk(case.module, case.loss, (case.data[0][chosen], targets[chosen]))
        assert part.value().item() == pytest.approx(alone.value().item(), rel=1e-13)
        total += part.num_examples * part.value().item()
    assert whole.num_examples == len(targets)  # untouched
    assert total / len(targets) == pytest.approx(whole.value().item(), rel=1e-13)


@pytest.mark.parametrize("name", ["cross_entropy", "mse", "smoothed", "soft"])
def test_directions_make_up_the_hessian_in_the_outputs(name: str):
    stream = generator("directions")
    f = torch.randn(6, 4, generator=stream, dtype=torch.float64)
    y = torch.randint(4, (6,), generator=stream)
    if name == "soft":
        y = torch.randn(6, 4, generator=stream, dtype=torch.float64).softmax(1)
    known = {"mse": losses.mse, "smoothed": losses.resolve(CASES["twice"].values)}
    loss = known.get(name, losses.cross_entropy)
    w, d = loss.directions(f, y)
    assert (w >= 0).all()
    total = torch.einsum("nk,nkc,nkd->ncd", w, d, d)
    torch.testing.assert_close(total, loss.hessian(f, y).expand(6, 4, 4), rtol=0, atol=1e-13)
