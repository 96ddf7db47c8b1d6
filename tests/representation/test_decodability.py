"""Linear decoders that have not seen the example, and the complexity of features made of them."""

import math

import pytest
import torch
from torch import Tensor

from gentheory.representation import decodability, similarity
from gentheory.seeds import generator


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def by_refitting(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    errors = []
    for i in range(len(features)):
        others = torch.arange(len(features)) != i
        x, y = features[others], targets[others]
        centre, level = x.mean(0), y.mean(0)
        eye = torch.eye(x.shape[1], dtype=x.dtype)
        x = x - centre
        slope = torch.linalg.solve(x.T @ x + penalty * eye, x.T @ (y - level))
        errors.append(targets[i] - level - (features[i] - centre) @ slope)
    return torch.stack(errors)


@pytest.mark.parametrize("dimension", [2, 20])
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_left_out_residuals_are_those_of_refitting(dimension: int, ridge: float):
    x, z = normal(9, dimension), normal(9, 3, seed=1)
    gram = similarity.gram(x)
    found = decodability.left_out_residuals(gram, z, ridge)
    expected = by_refitting(x, z, ridge * float(gram.diagonal().mean()))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_features_that_do_not_vary_decode_the_mean_of_the_others():
    z = normal(8, 2)
    found = decodability.left_out_residuals(torch.zeros(8, 8).double(), z, 1e-2)
    torch.testing.assert_close(found, (z - z.mean(0)) * 8 / 7)


def bits(count: int, seed: int) -> Tensor:
    return torch.randint(2, (count, 6), generator=generator("bits", seed)).double() * 2 - 1


def test_a_linear_feature_is_simple_and_a_parity_is_not():
    x = bits(400, 0)
    linear, parity = x[:, :1] + 2 * x[:, 1:2], (x[:, 0] * x[:, 1])[:, None]
    hidden = torch.cat([x, parity], dim=1)  # a later layer has computed it
    grams = [similarity.gram(layer) for layer in (x, x, hidden, hidden)]
    simple, late = (decodability.complexity(grams, z, 1e-4) for z in (linear, parity))
    assert simple.value < 1e-3
    assert late.value == pytest.approx(0.5, abs=1e-3)
    torch.testing.assert_close(
        late.layers, torch.tensor([0.0, 0.0, 1.0, 1.0]).double(), rtol=0, atol=1e-3
    )
    never = decodability.complexity(grams[:2], parity, 1e-4)
    assert never.value == 1.0
    assert never.stderr == 0.0


def test_the_mean_is_over_features_and_layers():
    x, z = normal(30, 4), normal(30, 3, seed=1)
    z[:, 0] = x[:, 0]
    grams = [similarity.gram(x), similarity.gram(x[:, :1])]
    found = decodability.complexity(grams, z, 1e-2)
    blind = decodability.left_out_residuals(torch.zeros(30, 30).double(), z, 1.0)
    shares = [
        1 - decodability.left_out_residuals(g, z, 1e-2).square().sum(0) / blind.square().sum(0)
        for g in grams
    ]
    expected = torch.stack(shares).clamp(min=0)
    torch.testing.assert_close(found.features, 1 - expected.mean(0))
    torch.testing.assert_close(found.layers, expected.mean(1))
    assert found.value == pytest.approx(1 - float(expected.mean()))


def test_the_scale_of_features_and_layers_does_not_matter():
    x, z = normal(30, 4), normal(30, 2, seed=1) + normal(30, 4)[:, :2]
    one = decodability.complexity([similarity.gram(x)], z, 1e-2)
    other = decodability.complexity([similarity.gram(100 * x + 3)], -7 * z + 1, 1e-2)
    assert other.value == pytest.approx(one.value, rel=1e-9)
    assert other.stderr == pytest.approx(one.stderr, rel=1e-9)


def test_errors_are_honest():
    values, errors = [], []
    for seed in range(200):
        x = normal(150, 3, seed=1000 + seed)
        z = x[:, :2] + normal(150, 2, seed=5000 + seed)
        found = decodability.complexity([similarity.gram(x)], z, 1e-2)
        values.append(found.value)
        errors.append(found.stderr)
    spread = float(torch.tensor(values).std())
    said = math.sqrt(sum(e**2 for e in errors) / 200)
    # They leave out what the decoders owe to the examples that they were fitted on.
    assert said == pytest.approx(spread, rel=0.2)
