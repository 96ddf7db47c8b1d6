"""A model is measured the same whichever file it lies in, and nearly so in single precision."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cases import CASES, initial_of, trajectory_of
from torch import Tensor

import gentheory as gt
from gentheory import checkpoint, losses, measures, models
from gentheory.checkpoint import Checkpoint
from gentheory.data.recipe import Recipe
from gentheory.estimate import Estimate
from gentheory.params import Layout, flatten, load_flat
from gentheory.seeds import generator
from gentheory.training.loop import Plan, Trained, train

pytestmark = pytest.mark.usefixtures("untraced")

RTOL = 1e-4
"""Of a value in float32 from that in float64, on a net of 50 parameters."""
CHAINS = {"num_chains": 2, "num_steps": 20, "burn_in": 10}
OTHER_DRAWS = {"singular.learning_coefficient", "singular.wbic"}
"""Their normal numbers are drawn in the dtype of the parameters."""
ALIKE = {
    *(f"baselines.{name}" for name in ("aic", "bic", "parameter_count", "training_time")),
    *("collapse.minority_collapse", "collapse.nc4"),
    *(f"representation.{name}" for name in ("local_complexity", "mergeable_features", "sparsity")),
    "robustness.pgd_accuracy",
}
"""Of two nets of one kind that have learned the same: sizes, and shares that are counted."""
MODEL = {"name": "mlp", "shape": (1, 8, 8), "num_classes": 10, "options": {"depth": 2, "width": 4}}
RECIPE = Recipe("digits", n_train=12)


@pytest.fixture(params=measures.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def estimated(subject: Checkpoint, name: str) -> Estimate:
    options = {name: CHAINS} if name.startswith("singular.") else {}
    return gt.measure(subject, name, options=options)[name]


@dataclass(frozen=True)
class Stack:
    """Two models that have learned the same few examples, and the file that holds them."""

    path: Path
    initial: Tensor
    trained: Trained

    def loaded(self, m: int) -> Checkpoint:
        return checkpoint.load(self.path, m)

    def single(self, m: int) -> Checkpoint:
        """The model as its user would hand it in, by the module and the data."""
        module = models.build(**MODEL)
        load_flat(module, self.trained.theta[m])
        risk = gt.EmpiricalRisk(module, "cross_entropy", RECIPE.train(), weight_decay=0.01)
        assert self.trained.trajectory is not None
        kept = self.trained.trajectory[m]
        return Checkpoint(risk, self.initial[m], 150, 2.0, kept.to(risk.theta))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    nets = [models.build(**MODEL, seed=m) for m in range(2)]
    start = torch.stack([flatten(net) for net in nets])
    rates, decay = torch.full((2,), 0.1), torch.full((2,), 0.01)
    plan = Plan(150, 12, rates, torch.full((2,), 0.9), decay, "constant", 0.0, True)
    orders = [generator(m) for m in range(2)]
    data = RECIPE.train()
    found = train(nets[0], losses.cross_entropy, start, data, plan, orders)
    path = tmp_path_factory.mktemp("stack") / "models.safetensors"
    record = {
        "model": MODEL,
        "data": RECIPE.to_dict(),
        "loss": "cross_entropy",
        "weight_decay": 0.01,
        "steps": 150,
        "training_time": 2.0,
    }
    layout = Layout.of(nets[0])
    kept = found.trajectory
    checkpoint.save(path, found.theta, start, layout=layout, records=[record] * 2, trajectory=kept)
    return Stack(path, start, found)


def test_a_stack_of_models_equals_as_many_singles(name: str, stack: Stack):
    loaded, single = (
        [estimated(of(m), name) for m in range(2)] for of in (stack.loaded, stack.single)
    )
    assert [e.status for e in loaded] == ["ok", "ok"], loaded
    assert [(e.value, e.stderr) for e in loaded] == [(e.value, e.stderr) for e in single]
    if name not in ALIKE:
        assert loaded[0].value != loaded[1].value


@pytest.fixture(scope="module")
def subjects() -> tuple[Checkpoint, Checkpoint]:
    """A net that fits its data, in float64 and in float32."""
    case = CASES["mlp"]
    module, (x, _) = case.module, case.data
    data = x, module.eval()(x).argmax(1)
    risks = [
        gt.EmpiricalRisk(module, "cross_entropy", data, weight_decay=0.01, dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    ]
    initial, kept = initial_of(risks[0]), trajectory_of(risks[0])
    one, other = (
        Checkpoint(risk, initial.to(risk.theta), 10, 0.5, kept.to(risk.theta)) for risk in risks
    )
    return one, other


def test_trap_30_float32_gives_what_float64_gives(
    name: str, subjects: tuple[Checkpoint, Checkpoint]
):
    wide, narrow = (estimated(subject, name) for subject in subjects)
    assert (wide.status, narrow.status) == ("ok", "ok"), narrow.reason
    if name in OTHER_DRAWS:
        assert abs(wide.value - narrow.value) < 4 * math.hypot(wide.stderr, narrow.stderr)
    else:
        assert narrow.value == pytest.approx(wide.value, rel=RTOL, abs=1e-9)
        assert narrow.stderr == pytest.approx(wide.stderr, rel=0.05, abs=1e-4 * abs(wide.value))
