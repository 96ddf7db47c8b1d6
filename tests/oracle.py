"""Dense float64 curvature of tiny nets: plain loops over examples, plain reverse-mode autograd.

Nothing is taken from gentheory, and nothing from `torch.func`: a mistake there has no twin here.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Values = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Dense:
    """Everything about mean loss + weight_decay / 2 |theta|² at the module's parameters."""

    theta: Tensor  # [P]
    value: float
    losses: Tensor  # [N], without weight decay
    gradients: Tensor  # [N, P], with weight decay
    jacobians: Tensor  # [N, C, P]
    hessian: Tensor  # all [P, P], with weight decay
    ggn: Tensor
    fisher: Tensor
    covariance: Tensor
    centred: Tensor

    @property
    def mean_gradient(self) -> Tensor:
        return self.gradients.mean(0)


def dense(
    module: nn.Module,
    values: Values,
    inputs: Tensor,
    targets: Tensor,
    *,
    weight_decay: float = 0.0,
    likelihood: str | None = "cross_entropy",
) -> Dense:
    """All matrices of the module in eval mode; `likelihood` None leaves the Fisher at nan."""
    module = copy.deepcopy(module).eval()
    params = [p for p in module.parameters() if p.requires_grad]
    theta = flat(params)
    with sdpa_kernel(SDPBackend.MATH):
        rows = [_example(module, params, values, inputs, targets, i) for i in range(len(inputs))]
        plain_hessian = _hessian(module, params, values, inputs, targets)
    losses, slopes, jacobians, bends = (torch.stack(part) for part in zip(*rows, strict=True))
    gradients = slopes + weight_decay * theta
    ridge = weight_decay * torch.eye(len(theta), dtype=theta.dtype)
    mean = gradients.mean(0)
    covariance = _mean([torch.outer(g, g) for g in gradients])
    return Dense(
        theta,
        float(losses.mean() + weight_decay / 2 * theta @ theta),
        losses,
        gradients,
        jacobians,
        plain_hessian + ridge,
        _mean([j.T @ bend @ j for j, bend in zip(jacobians, bends, strict=True)]) + ridge,
        _fisher(module, jacobians, inputs, likelihood) + ridge,
        covariance,
        covariance - torch.outer(mean, mean),
    )


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference in units of the largest expected number."""
    assert actual.shape == expected.shape
    return float((actual.double() - expected).abs().max() / expected.abs().max())


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def tic(
    curvature: Tensor, covariance: Tensor, num_examples: int, *, damping: float, absolute: bool
) -> float:
    """tr((H + λI)⁻¹ C) / N by a linear solve; a relative λ is in units of the largest |h|."""
    h, c = curvature.numpy(), covariance.numpy()
    scale = 1.0 if absolute else np.abs(np.linalg.eigvalsh(h)).max()
    return float(np.trace(np.linalg.solve(h + damping * scale * np.eye(len(h)), c)) / num_examples)


def trust_region(hessian: Tensor, slope: Tensor, radius: float) -> float:
    """max gᵀε + εᵀHε / 2 over |ε| ≤ radius, g not orthogonal to the top: |(λ − H)⁻¹g| = radius."""
    values, vectors = np.linalg.eigh(hessian.numpy())
    along = vectors.T @ slope.numpy()

    def excess(ridge: float) -> float:
        return float(np.linalg.norm(along / (ridge - values))) - radius

    low, high = values[-1] + 1e-14, values[-1] + 2 * np.linalg.norm(along) / radius
    step = along / (brentq(excess, low, high, xtol=1e-15) - values)
    return float(along @ step + step @ (values * step) / 2)


def _mean(matrices: list[Tensor]) -> Tensor:
    total = torch.zeros_like(matrices[0])
    for matrix in matrices:
        total += matrix
    return total / len(matrices)


def _derivative(scalar: Tensor, params: list[Tensor], *, create_graph: bool = False) -> Tensor:
    found = torch.autograd.grad(
        scalar, params, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, params, strict=True)]
    return torch.cat([part.reshape(-1) for part in parts])


def _example(
    module: nn.Module,
    params: list[Tensor],
    values: Values,
    inputs: Tensor,
    targets: Tensor,
    index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, gradient [P], Jacobian of the outputs [C, P], Hessian of the loss in them [C, C]."""
    target = targets[index : index + 1]
    outputs = module(inputs[index : index + 1].clone())
    loss = values(outputs, target)[0]
    jacobian = torch.stack([_derivative(f, params) for f in outputs[0]])
    bend = torch.autograd.functional.hessian(
        lambda f: values(f[None], target)[0], outputs[0].detach()
    )
    return loss.detach(), _derivative(loss, params), jacobian, bend


def _hessian(
    module: nn.Module, params: list[Tensor], values: Values, inputs: Tensor, targets: Tensor
) -> Tensor:
    """Double backward, one row at a time."""
    mean = values(module(inputs.clone()), targets).mean()
    gradient = _derivative(mean, params, create_graph=True)
    rows = [
        _derivative(g, params) if g.requires_grad else torch.zeros_like(gradient) for g in gradient
    ]
    return torch.stack(rows).detach()


def _fisher(module: nn.Module, jacobians: Tensor, inputs: Tensor, likelihood: str | None) -> Tensor:
    """Mean over the examples of E_y[g gᵀ]: the classes enumerated, or the normal's closed form."""
    with torch.no_grad():
        outputs = module(inputs.clone())
    terms: list[Tensor] = []
    for f, jacobian in zip(outputs, jacobians, strict=True):
        if likelihood is None:
            terms.append(torch.full_like(jacobian.T @ jacobian, torch.nan))
        elif likelihood == "mse":  # residuals 2/C (f - y), y of variance C/2 around f
            terms.append(2 / len(f) * jacobian.T @ jacobian)
        else:
            p = f.exp() / f.exp().sum()
            scores = [jacobian.T @ (p - torch.eye(len(p), dtype=p.dtype)[k]) for k in range(len(p))]
            terms.append(sum(p[k] * torch.outer(g, g) for k, g in enumerate(scores)))  # type: ignore[arg-type]
    return _mean(terms)
