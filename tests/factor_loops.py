"""Kronecker factors of tiny nets by plain loops over examples, calls, positions and outputs.

As in `oracle.py`, nothing is taken from gentheory or `torch.func`.
"""

import copy
from collections import defaultdict
from dataclasses import dataclass

import torch
from cases import Case, truth
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass
class Factors:
    """Of one parameter; lists run over the groups of a convolution."""

    inputs: list[Tensor]  # mean over examples and positions of a aᵀ
    curvature: list[Tensor]  # mean over examples of Σ_t Σ_cd Λ_cd g_ct g_dtᵀ
    covariance: list[Tensor]  # mean over examples of Σ_t g_t g_tᵀ, g_t = Σ_c r_c g_ct

    def dense(self, which: str) -> Tensor:
        """S ⊗ A in the order of the flat weight."""
        outer = zip(getattr(self, which), self.inputs, strict=True)
        return torch.block_diag(*(torch.kron(s, a) for s, a in outer))


Use = tuple[Tensor, Tensor]
"""One position of one group: its input a [D], and its output's gradients g [C, O]."""


def factors(case: Case, names: list[str]) -> dict[str, Factors]:
    """Of these parameters, with the Hessian of the loss in the outputs for Λ."""
    module = copy.deepcopy(case.module).eval()
    own = {id(p): name for name, p in module.named_parameters()}
    sums: dict[str, dict[str, list[Tensor]]] = {}
    x, y = case.data
    for i in range(len(x)):
        f, calls = _recorded(module, x[i : i + 1])
        r, bend = _derivatives(case, f[0].detach(), y[i : i + 1])
        uses: dict[str, list[list[Use]]] = defaultdict(list)
        for layer, a, out in calls:
            if own[id(layer.weight)] not in names and own.get(id(layer.bias)) not in names:
                continue
            rows = [torch.autograd.grad(c, out, retain_graph=True)[0][0] for c in f[0]]
            for parameter, found in zip(
                (layer.weight, layer.bias), _uses(layer, a[0], torch.stack(rows)), strict=True
            ):
                if own.get(id(parameter)) in names:
                    uses[own[id(parameter)]].append(found)
        for name, groups in uses.items():
            _add(sums.setdefault(name, defaultdict(list)), groups, r, bend)
    return {
        name: Factors(*(_mean(total[key], len(x)) for key in ("a", "s", "c")))
        for name, total in sums.items()
    }


def dense(case: Case, which: str, names: list[str]) -> Tensor:
    """The data's part of a curvature or covariance [P, P] by factors, diagonals for the others."""
    exact, decay = truth(case.name), case.weight_decay
    if which == "curvature":
        diagonal = exact.ggn.diagonal() - decay
    else:
        diagonal = (exact.gradients - decay * exact.theta).square().mean(0)
    found, blocks, start = factors(case, names), [], 0
    for name, parameter in case.module.named_parameters():
        if parameter.requires_grad:
            end = start + parameter.numel()
            own = torch.diag(diagonal[start:end])
            blocks.append(found[name].dense(which) if name in found else own)
            start = end
    return torch.block_diag(*blocks)


def _mean(rows: list[Tensor], count: int) -> list[Tensor]:
    """Over the examples, by group."""
    return [sum(parts) / count for parts in zip(*rows, strict=True)]  # type: ignore[misc]


def _add(total: dict[str, list[Tensor]], calls: list[list[list[Use]]], r: Tensor, bend: Tensor):
    """One example: each call has a list of groups, each group a list of positions."""
    groups = [[use for part in parts for use in part] for parts in zip(*calls, strict=True)]
    total["a"].append([sum(torch.outer(a, a) for a, _ in g) / len(g) for g in groups])
    total["s"].append([sum(g.T @ bend @ g for _, g in group) for group in groups])
    total["c"].append([sum(torch.outer(r @ g, r @ g) for _, g in group) for group in groups])


def _recorded(
    module: nn.Module, x: Tensor
) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def hook(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        calls.append((layer, args[0].detach().clone(), out))
        return out.clone()

    parts = [m for m in module.modules() if type(m) in (nn.Linear, nn.Conv2d)]
    handles = [part.register_forward_hook(hook) for part in parts]
    with sdpa_kernel(SDPBackend.MATH):
        outputs = module(x.clone())
    for handle in handles:
        handle.remove()
    return outputs, [call for call in calls if call[2].requires_grad]


def _derivatives(case: Case, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    def loss(at: Tensor) -> Tensor:
        return case.values(at[None], y)[0]

    return torch.autograd.functional.jacobian(loss, f), torch.autograd.functional.hessian(loss, f)


def _uses(layer: nn.Module, a: Tensor, g: Tensor) -> tuple[list[list[Use]], list[list[Use]]]:
    """Of weight and bias, from one example's input and its output's gradients [C, ...]."""
    if isinstance(layer, nn.Linear):
        rows, slopes = a.reshape(-1, a.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
        weight = [[(rows[t], slopes[:, t]) for t in range(len(rows))]]
        return weight, [[(torch.ones(1).double(), slopes.sum(1))]]
    return _convolved(layer, a, g), [[(torch.ones(1).double(), g.sum((2, 3)))]]


def _convolved(layer: nn.Conv2d, a: Tensor, g: Tensor) -> list[list[Use]]:
    """Each output pixel is a position, and what the kernel sees there its input."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
    )
    padded = torch.zeros(a.shape[0], a.shape[1] + 2 * ph, a.shape[2] + 2 * pw, dtype=a.dtype)
    padded[:, ph : ph + a.shape[1], pw : pw + a.shape[2]] = a
    width, out = a.shape[0] // layer.groups, g.shape[1] // layer.groups
    found: list[list[Use]] = []
    for group in range(layer.groups):
        seen = padded[group * width : (group + 1) * width]
        slopes = g[:, group * out : (group + 1) * out]
        found.append(
            [
                (
                    torch.stack(
                        [
                            seen[c, i * sh + u * dh, j * sw + v * dw]
                            for c in range(width)
                            for u in range(kh)
                            for v in range(kw)
                        ]
                    ),
                    slopes[:, :, i, j],
                )
                for i in range(g.shape[2])
                for j in range(g.shape[3])
            ]
        )
    return found
