"""SAM, ASAM and FAD against loops over one plain torch module, and what defines each."""

import pytest
import torch
from cases import CASES
from oracle import relative_error
from torch import Tensor, nn
from torch.nn import functional as F
from training_loops import BATCH, NET, N, alone, plan, run, split, starts

from gentheory.params import Layout, flatten
from gentheory.seeds import generator
from gentheory.training import optimizers
from gentheory.training.optimizers.searches import FAD, SAM, At, Look
from gentheory.training.plan import Plan
from gentheory.training.published import Name

OWN = {
    "sam": {"rho": [0.05, 0.3, 1.0]},
    "asam": {"rho": [0.5, 0.1, 2.0], "eta": [0.01, 0.0, 0.3]},
    "fad": {"rho": [0.05, 0.2, 0.5], "fad_alpha": [0.5, 0.0, 1.0], "fad_beta": [1.0, 0.3, 0.1]},
}


def chosen(name: Name, **changes: object) -> Plan:
    own = {key: torch.tensor(values, dtype=torch.float64) for key, values in OWN[name].items()}
    settings: dict[str, object] = {"optimizer": name, "own": own, "epochs": 7, **changes}
    return plan([0.1, 0.05, 0.2], **settings)


@pytest.mark.parametrize("name", ["sam", "asam", "fad"])
def test_a_stack_goes_as_plain_loops_do(name: Name):
    theta, settings = starts(3), chosen(name)
    trained = run(theta, settings)
    for m in range(3):
        assert relative_error(trained.theta[m], by_hand(name, theta[m], settings, m)) < 1e-10
        own = {key: values[m : m + 1] for key, values in settings.own.items()}
        columns = (settings.learning_rate, settings.momentum, settings.weight_decay)
        alone = Plan(7, BATCH, *(c[m : m + 1] for c in columns), optimizer=name, own=own)
        single = run(theta[m : m + 1], alone, first=m)
        assert relative_error(trained.theta[m], single.theta[0]) < 1e-12


def by_hand(name: str, theta: Tensor, settings: Plan, m: int) -> Tensor:
    """torch.optim.SGD along gradients taken elsewhere, tensor by tensor; 21 steps."""
    net = alone(theta)
    own = {key: float(values[m]) for key, values in settings.own.items()}
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=float(settings.learning_rate[m]),
        momentum=float(settings.momentum[m]),
        weight_decay=float(settings.weight_decay[m]),
    )
    data, order = split(), generator("order", m)
    for _ in range(settings.epochs):
        for index in torch.randperm(N, generator=order).split(BATCH):
            x, y = data.inputs[index].double(), data.targets[index]
            found = {"sam": sam, "asam": asam, "fad": fad}[name](net, x, y, own)
            for parameter, slope in zip(net.parameters(), found, strict=True):
                parameter.grad = slope
            optimizer.step()
    return flatten(net)


def slopes(net: nn.Module, x: Tensor, y: Tensor, steps: list[Tensor] | None = None) -> list[Tensor]:
    """Gradients after steps, which are taken back."""
    parameters = list(net.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, step in zip(
            parameters, steps or [torch.zeros(())] * len(before), strict=True
        ):
            parameter.add_(step)
    found = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
    with torch.no_grad():
        for parameter, old in zip(parameters, before, strict=True):
            parameter.copy_(old)
    return list(found)


def scaled(parts: list[Tensor], radius: float) -> list[Tensor]:
    norm = sum(float(part.square().sum()) for part in parts) ** 0.5
    return [radius * part / norm for part in parts]


def sam(net: nn.Module, x: Tensor, y: Tensor, own: dict[str, float]) -> list[Tensor]:
    return slopes(net, x, y, scaled(slopes(net, x, y), own["rho"]))


def asam(net: nn.Module, x: Tensor, y: Tensor, own: dict[str, float]) -> list[Tensor]:
    sizes = [
        p.detach().abs() + own["eta"] if "weight" in name else torch.ones_like(p)
        for name, p in net.named_parameters()
    ]
    stretched = [t * g for t, g in zip(sizes, slopes(net, x, y), strict=True)]
    steps = [t * s for t, s in zip(sizes, scaled(stretched, own["rho"]), strict=True)]
    return slopes(net, x, y, steps)


def fad(net: nn.Module, x: Tensor, y: Tensor, own: dict[str, float]) -> list[Tensor]:
    rho, alpha, beta = own["rho"], own["fad_alpha"], own["fad_beta"]
    g0 = slopes(net, x, y)
    g1 = slopes(net, x, y, scaled(g0, rho))
    h0 = [b - a for a, b in zip(g0, g1, strict=True)]
    g2 = slopes(net, x, y, scaled(h0, rho))
    g3 = slopes(net, x, y, scaled(g2, rho))
    h1 = [b - a for a, b in zip(g2, g3, strict=True)]
    parts = zip(g0, h0, h1, strict=True)
    return [g + beta * (alpha * a + (1 - alpha) * b) for g, a, b in parts]


def test_a_search_of_no_radius_is_sgd():
    theta = starts(3)
    settings = plan([0.1, 0.05, 0.2])
    reference = run(theta, settings)
    still = {"rho": torch.zeros(3)}
    for name in ("sam", "asam", "fad"):
        found = run(theta, plan([0.1, 0.05, 0.2], optimizer=name, own=still))
        assert relative_error(found.theta, reference.theta) < 1e-12


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zero_leads_nowhere(dtype: torch.dtype):
    theta = torch.ones(2, 4, dtype=dtype)
    seen: list[Tensor] = []

    def at(where: Tensor) -> Look:
        seen.append(where)
        return torch.zeros_like(where), (where, {})

    for search in (SAM(column(0.1, 0.2).to(dtype)), FAD(*(column(0.1, 0.2).to(dtype),) * 3)):
        search(theta, at)
    assert all(torch.equal(where, theta) for where in seen)
    assert len(seen) == 6


class TwoLayers(nn.Module):
    """ReLU without biases: (c W1, W2 / c) is the same function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6, bias=False), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


def risen(name: Name, net: nn.Module, theta: Tensor, own: dict[str, float]) -> tuple[float, Tensor]:
    """The loss at the end of the ascent from theta, and where that is."""
    data, layout = split(), Layout.of(net)
    x, y = data.inputs.double(), data.targets
    seen: list[Tensor] = []

    def value(where: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(net, layout.unflatten(where), (x,)), y)

    def at(where: Tensor) -> Look:
        seen.append(where[0])
        return torch.func.grad(value)(where[0])[None], (where, {})

    search = optimizers.search(name, {key: column(v) for key, v in own.items()}, layout)
    assert search is not None
    search(theta[None], at)
    return float(value(seen[-1])), seen[-1]


def test_trap_23_asam_does_not_see_a_change_of_scale_between_layers_and_sam_does():
    net = TwoLayers().double()
    theta = torch.randn(48, generator=generator("scale"), dtype=torch.float64)
    other = torch.cat([7 * theta[:30], theta[30:] / 7])
    one, there = risen("asam", net, theta, {"rho": 0.5, "eta": 0.0})
    two, there_too = risen("asam", net, other, {"rho": 0.5, "eta": 0.0})
    assert one == pytest.approx(two, rel=1e-12)
    assert relative_error(there_too, torch.cat([7 * there[:30], there[30:] / 7])) < 1e-12
    for blind in (("sam", {"rho": 0.5}), ("asam", {"rho": 0.5, "eta": 0.1})):
        assert risen(blind[0], net, theta, blind[1])[0] != pytest.approx(
            risen(blind[0], net, other, blind[1])[0], rel=1e-2
        )


def test_trap_23_asam_moves_biases_by_their_gradient():
    """T = 1 for them, so that one at 0 is searched too; T = |w| + eta for weights."""
    net = CASES["mlp"].module
    layout = Layout.of(net)
    theta = flatten(net).clone()
    for name, part in layout.unflatten(theta).items():
        part.zero_() if "bias" in name else None
    _, there = risen("asam", net, theta, {"rho": 0.5, "eta": 0.0})
    moved = layout.unflatten(there - theta)
    assert all(part.abs().max() > 1e-3 for name, part in moved.items() if "bias" in name)
    t = torch.cat(
        [
            torch.ones(size, dtype=torch.float64) if "bias" in n else theta[s].abs()
            for (n, s), size in zip(layout.slices.items(), layout.sizes, strict=True)
        ]
    )
    length = torch.where(t > 0, (there - theta) / t, 0).norm()
    assert float(length) == pytest.approx(0.5, rel=1e-12)


def test_fad_sees_twice_the_first_flatness_near_a_minimum():
    """R¹ / R⁰ = ρ · ρ λ / (ρ² λ / 2) = 2 at a minimum, along the steepest direction."""
    stream = generator("fad")
    q, _ = torch.linalg.qr(torch.randn(8, 8, generator=stream, dtype=torch.float64))
    values = torch.tensor([5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.0], dtype=torch.float64)
    matrix = q * values @ q.mT
    rho = 0.1
    for distance, closeness in ((1e-3, 0.05), (1e-6, 1e-4)):
        seen: list[Tensor] = []
        theta = (distance * q[:, 0])[None]
        at = _recording(matrix, seen)
        FAD(column(rho), column(0.5), column(1.0))(theta, at)
        rise = 0.5 * (seen[1] @ matrix @ seen[1] - seen[0] @ matrix @ seen[0])
        slope = rho * (matrix @ seen[3]).norm()
        assert len(seen) == 4
        assert float(slope / rise) == pytest.approx(2, rel=closeness)


def _recording(matrix: Tensor, seen: list[Tensor]) -> At:
    def at(where: Tensor) -> Look:
        seen.append(where[0])
        return where @ matrix, (where, {})

    return at


def test_sam_ends_rho_away_along_the_gradient():
    """The loss rises by ρ |g| to first order, and by ρ² λ / 2 at a minimum."""
    net = NET
    theta = flatten(net)
    before, _ = risen("sam", net, theta, {"rho": 0.0})
    _, there = risen("sam", net, theta, {"rho": 1e-4})
    rise = risen("sam", net, theta, {"rho": 1e-4})[0] - before
    assert float((there - theta).norm()) == pytest.approx(1e-4, rel=1e-10)
    slope = (there - theta) / 1e-4
    data, layout = split(), Layout.of(net)

    def value(where: Tensor) -> Tensor:
        outputs = torch.func.functional_call(net, layout.unflatten(where), (data.inputs.double(),))
        return F.cross_entropy(outputs, data.targets)

    gradient = torch.func.grad(value)(theta)
    assert rise == pytest.approx(1e-4 * float(gradient.norm()), rel=1e-3)
    assert relative_error(slope, gradient / gradient.norm()) < 1e-9
