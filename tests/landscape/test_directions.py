"""Directions have the lengths, the angles and the invariances that they are named after."""

import pytest
import torch
from cases import CASES, regression, truth
from torch import Tensor, nn

import gentheory as gt
from gentheory.errors import InputError
from gentheory.landscape import directions, slices
from gentheory.seeds import generator


def drawn(risk: gt.EmpiricalRisk, count: int = 3) -> Tensor:
    return directions.random(risk, count, generator=generator(0))


@pytest.mark.parametrize("case", ["mlp", "conv", "batch norm", "embedding tied", "scalar"])
@pytest.mark.parametrize("vectors", ["zero", "normalize"])
def test_each_filter_is_as_long_as_that_of_the_weights(case: str, vectors: str):
    risk = CASES[case].risk()
    raw = drawn(risk)
    made = directions.filter_normalized(risk, raw, vectors=vectors)
    weights = risk.layout.unflatten(risk.theta)
    for name, part in risk.layout.unflatten(made).items():
        weight, before = weights[name], risk.layout.unflatten(raw)[name]
        for d, b in zip(part, before, strict=True):
            if weight.dim() < 2 and vectors == "zero":
                assert not d.any()
                continue
            rows = zip(d, b, weight, strict=True) if weight.dim() else [(d, b, weight)]
            for row, old, own in rows:
                torch.testing.assert_close(row.norm(), own.norm())
                torch.testing.assert_close(row * old.norm(), old * own.norm())


def test_each_tensor_is_as_long_as_the_weights():
    risk = CASES["conv"].risk()
    made = directions.layer_normalized(risk, drawn(risk), vectors="normalize")
    weights = risk.layout.unflatten(risk.theta)
    for name, part in risk.layout.unflatten(made).items():
        lengths = part.flatten(1).norm(dim=1)
        torch.testing.assert_close(lengths, weights[name].norm().expand(3))
    without = directions.layer_normalized(risk, drawn(risk))
    biases = [part for part in risk.layout.unflatten(without).values() if part.dim() == 2]
    assert biases
    assert not any(part.any() for part in biases)


def test_weights_of_zeros_and_directions_of_zeros_stay_where_they_are():
    risk = CASES["mlp"].risk()
    still = risk.at(torch.zeros_like(risk.theta))
    assert not directions.filter_normalized(still, drawn(risk)).any()
    assert not directions.filter_normalized(risk, torch.zeros_like(drawn(risk))).any()
    assert not directions.unit(torch.zeros_like(drawn(risk))).any()


def rescaled(c: float) -> gt.EmpiricalRisk:
    """A ReLU net with its first layer c times as large, and its second one 1/c times."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        net[0].weight *= c
        net[0].bias *= c
        net[2].weight /= c
    return gt.EmpiricalRisk(net, "cross_entropy", CASES["mlp"].data)


@pytest.mark.parametrize("vectors", ["zero", "normalize"])
@pytest.mark.parametrize("normalized", [directions.filter_normalized, directions.layer_normalized])
def test_trap_36_rescaling_of_layers_leaves_a_normalized_slice_as_it_is(normalized, vectors: str):
    one, other = rescaled(1.0), rescaled(10.0)
    raw = drawn(one)
    tables = [slices.line(r, normalized(r, raw, vectors=vectors)) for r in (one, other)]
    for column in ("loss", "stderr", "accuracy"):
        found, expected = (torch.tensor(table[column].to_numpy()) for table in tables)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_trap_36_rescaling_of_layers_changes_a_slice_that_is_not_normalized():
    one, other = rescaled(1.0), rescaled(10.0)
    losses = [slices.line(r, drawn(one), distances=[0.0, 1.0])["loss"] for r in (one, other)]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-12)
    assert abs(losses[0][1] - losses[1][1]) > 0.1


def test_orthogonal_directions_keep_their_lengths_and_their_plane():
    risk = CASES["mlp"].risk()
    raw = drawn(risk)
    raw[1] = raw[0] + 1e-3 * raw[1]
    made = directions.orthogonal(raw)
    products = made @ made.T
    torch.testing.assert_close(products.diagonal(), raw.square().sum(1))
    assert (products - products.diagonal().diag()).abs().max() < 1e-12 * products.max()
    assert torch.linalg.matrix_rank(torch.cat([raw, made])) == 3
    torch.testing.assert_close(made[0], raw[0])


def test_the_gradient_and_eigenvectors_are_those_of_the_data_alone():
    case, dense = CASES["skip"], truth("skip")
    risk = case.risk()
    assert case.weight_decay
    slope = dense.mean_gradient - case.weight_decay * dense.theta
    torch.testing.assert_close(directions.gradient(risk)[0], slope / slope.norm())
    eye = torch.eye(len(slope), dtype=slope.dtype)
    values = torch.linalg.eigvalsh(dense.hessian - case.weight_decay * eye)
    for end, expected in (("largest", values.flip(0)), ("smallest", values)):
        found = directions.eigenvectors(risk, 2, end=end, rtol=1e-8, generator=generator(1))
        torch.testing.assert_close(found.values, expected[:2], rtol=1e-6, atol=1e-8)
        assert bool((found.vectors @ slope >= 0).all())
        product = found.vectors @ (dense.hessian - case.weight_decay * eye)
        torch.testing.assert_close(
            product, found.values[:, None] * found.vectors, atol=1e-6, rtol=0
        )


def test_a_line_along_an_eigenvector_bends_by_its_eigenvalue():
    risk = regression()
    found = directions.eigenvectors(risk, 3, rtol=1e-10, generator=generator(0))
    table = slices.line(risk, found.vectors, distances=[-2.0, 0.0, 2.0])
    low, middle, high = torch.tensor(table["loss"].to_numpy()).unflatten(0, (3, 3)).T
    torch.testing.assert_close((low - 2 * middle + high) / 4, found.values, rtol=1e-8, atol=1e-10)


def test_towards_other_parameters_they_lie_at_distance_one():
    risk = CASES["mlp"].risk()
    other = drawn(risk)[0]
    table = slices.line(risk, directions.towards(risk, other), distances=[0.0, 1.0])
    expected = [risk.value().item(), risk.value(other).item()]
    assert table["loss"].tolist() == pytest.approx(expected, rel=1e-12)


def test_principal_components_span_the_plane_of_the_path():
    risk = CASES["mlp"].risk()
    one, other = directions.orthogonal(drawn(risk, 2))
    times = torch.linspace(3, 0, 12, dtype=risk.dtype)
    path = risk.theta + times[:, None] * one + 0.3 * torch.sin(times)[:, None] * other
    found = directions.principal(path)
    torch.testing.assert_close(risk.theta + found.coordinates @ found.directions, path)
    torch.testing.assert_close(
        found.directions @ found.directions.T, torch.eye(2, dtype=risk.dtype), atol=1e-12, rtol=0
    )
    assert found.shares.sum().item() == pytest.approx(1)
    assert found.shares[0] > 0.9
    assert bool((found.coordinates[0] > 0).all())
    noisy = path + 0.01 * drawn(risk, 12)
    assert 0.9 < directions.principal(noisy, centre=risk.theta).shares.sum().item() < 1


def test_coordinates_are_found_along_directions_at_any_angle():
    risk = CASES["mlp"].risk()
    pair = drawn(risk, 2)
    pair[1] += 5 * pair[0]
    wanted = torch.tensor([[1.0, 2.0], [-3.0, 0.5], [0.0, 0.0]], dtype=risk.dtype)
    beside = directions.orthogonal(drawn(risk, 3) + torch.cat([pair, pair[:1] * 0]))[2]
    beside -= torch.linalg.lstsq(pair.T, beside).solution @ pair
    path = risk.theta + wanted @ pair + beside
    torch.testing.assert_close(directions.coordinates(path, pair, centre=risk.theta), wanted)


def test_what_makes_no_direction_is_refused():
    risk = CASES["mlp"].risk()
    with pytest.raises(InputError, match=r"count: found 0, expected at least 1"):
        directions.random(risk, 0, generator=generator(0))
    with pytest.raises(InputError, match="found 'ones', expected 'zero' or 'normalize'"):
        directions.filter_normalized(risk, drawn(risk), vectors="ones")
    with pytest.raises(InputError, match="row 1: found a combination of the rows before it"):
        directions.orthogonal(drawn(risk)[[0, 0]])
    with pytest.raises(InputError, match="2 points on one line through the centre"):
        directions.principal(torch.stack([risk.theta, 2 * risk.theta]))
    inputs, fitted = regression(), regression()
    x, _ = inputs.joined()
    fitted = fitted.on(x, fitted.outputs(fitted.theta, x).detach())
    with pytest.raises(InputError, match="found a gradient of zeros"):
        directions.gradient(fitted)
