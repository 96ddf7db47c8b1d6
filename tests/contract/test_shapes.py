"""The annotated shapes are the real ones: the core runs under jaxtyping's import hook."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib
import pkgutil

import torch
from jaxtyping import TypeCheckError, install_import_hook

# Not gentheory.data: its protocol of batches is for type checkers, not for isinstance.
CHECKED = [
    f"gentheory.{name}"
    for name in (
        "ascent", "attack", "checkpoint", "collapse", "curvature", "estimate", "examples",
        "factors", "features", "infinite_width", "landscape", "left_out", "linalg", "losses",
        "measures", "middles", "mislabelled", "models", "modes", "noise_scale", "parameter_sets",
        "params", "predicted", "predictions", "representation", "risk", "seeds", "tangent",
        "training", "trajectory", "weights",
    )
]

with install_import_hook(CHECKED, "type_checks.check"):
    import gentheory as gt

    # Whatever is imported later, as the families of measures are, would not be checked.
    for package in CHECKED:
        inside = getattr(importlib.import_module(package), "__path__", ())
        for part in pkgutil.walk_packages(inside, f"{package}."):
            importlib.import_module(part.name)

    from cases import CASES, initial_of, trajectory_of
    from gentheory.landscape import directions, slices
    from gentheory import losses, measures, models
    from gentheory.checkpoint import Checkpoint, load, save
    from gentheory.curvature import fisher, gradient_covariance, linearized, sampled_fisher
    from gentheory.data.recipe import Recipe
    from gentheory.curvature.tangent import tangent_kernel
    from gentheory.factors import gradient_norms
    from gentheory.factors.gram import output_grams
    from gentheory.infinite_width import deep_kernel, deep_limit, erf, hermite, kernels, relu, vote
    from gentheory.params import Layout, flatten
    from gentheory.seeds import generator
    from gentheory.training.evaluate import evaluate
    from gentheory.training.loop import Plan, train

from contract.test_measures import REFUSED

for name in ("conv", "embedding tied", "attention", "twice", "scalar"):
    risk = CASES[name].risk()
    kept = trajectory_of(risk)
    assert kept.mean_residuals.shape == (risk.num_examples, risk.num_outputs)
    checkpoint = Checkpoint(risk, initial_of(risk), 10, 0.5, kept)
    inputs, _ = CASES[name].data
    fitted = inputs, CASES[name].module.eval()(inputs).argmax(1)
    right = Checkpoint(gt.EmpiricalRisk(CASES[name].module, CASES[name].loss, fitted))
    for measure in measures.names():
        few = {measure: {"num_steps": 8, "burn_in": 4}} if "singular" in measure else {}
        found = gt.measure(checkpoint, measure, options=few)[measure]
        if found.status == "refused":
            found = gt.measure(right, measure, options=few)[measure]
        known = name in REFUSED.get(measure, ())
        assert found.status == "ok" or known, (name, measure, found.reason)
    if CASES[name].likelihood:
        rungs = ("blocks", "diagonal", "ekfac", "exact", "kfac", "solve", "trace_ratio")
        kinds = {f"tic.{rung}": {"curvature": "sampled_fisher"} for rung in rungs}
        results = gt.measure(checkpoint, list(kinds), options=kinds)
        assert all(estimate.status == "ok" for estimate in results.values())
        sampled_fisher(risk, generator=generator(0))(risk.theta)
        fisher(risk)(risk.theta)
    linearized._TRACING = float("inf")  # once is enough
    gradient_norms(risk)
    output_grams(risk, risk, max_memory=10**6)
    tangent_kernel(risk).dense()
    pair = directions.orthogonal(directions.random(risk, 2, generator=generator(0)))
    found = directions.eigenvectors(risk, 1, generator=generator(0))
    ways = torch.cat([directions.gradient(risk), directions.towards(risk, pair[0]), found.vectors])
    slices.line(risk, ways, distances=[0.0, 1.0], by_class=True, keep=f"{PATH}.{name}")
    path = directions.principal(torch.cat([pair, risk.theta[None]]))
    slices.projected(pair, path.directions, centre=risk.theta)
    gradient_covariance(risk, centred=True)(torch.zeros(2, 3, risk.num_params).double())

for activation in (relu, erf, hermite([0.0, 0.6, 0.8])):
    x = torch.eye(3).double()
    kernels(x, x[:2], depth=3, activation=activation)
    vote(deep_kernel(x @ x.T, depth=40, activation=activation), torch.ones(3, 1))
    deep_limit(activation)

recipe = Recipe("digits", n_train=30)
description = {"name": "mlp", "shape": (1, 8, 8), "num_classes": 10, "options": {"width": 3}}
net = models.build(**description, seed=0)
start = flatten(net).repeat(2, 1)
plan = Plan(2, 8, torch.tensor([0.1, 0.01]), torch.zeros(2), torch.zeros(2), "cosine", 0.1, True)
orders = [generator(m) for m in range(2)]
trained = train(net, losses.cross_entropy, start, recipe.train(), plan, orders)
evaluate(net, losses.cross_entropy, trained.theta, recipe.train(), recipe.test())
for name, options in {
    "resnet": {"width": 2, "norm": "batch"},
    "vgg": {"width": 2, "norm": "group"},
    "vit": {"width": 4, "pool": "token"},
    "mixer": {"width": 4},
}.items():
    other = models.build(name, shape=(1, 8, 8), num_classes=10, options=options)
    start = flatten(other).repeat(2, 1)
    found = train(other, losses.cross_entropy, start, recipe.train(), plan, orders)
    assert evaluate(
        other, losses.cross_entropy, found.theta, recipe.train(), recipe.test(),
        statistics=found.statistics,
    ).gap.shape == (2,)
start = flatten(net).repeat(2, 1)
record = {
    "model": description, "data": recipe.to_dict(), "loss": "cross_entropy",
    "weight_decay": 0.0, "steps": 8, "training_time": 0.5,
}
kept = trained.trajectory
save(PATH, trained.theta, start, layout=Layout.of(net), records=[record] * 2, trajectory=kept)
for measure in ("tic.diagonal", "tic.left_out"):
    assert gt.measure(load(PATH, 1), measure)[measure].status == "ok"

# The hook does bite.
for wrong in (
    lambda: risk.gradient(torch.zeros(2, 16).double()),
    lambda: losses.cross_entropy.fisher(torch.zeros(3)),
    lambda: gt.Estimate("1.0"),
):
    try:
        wrong()
    except TypeCheckError:
        continue
    raise SystemExit("a wrong shape or type went through")
print("checked", len(measures.names()))
"""


def test_annotated_shapes_hold(tmp_path: Path):
    path = str(tmp_path / "stack.safetensors")
    program = f"PATH = __import__('pathlib').Path({path!r})\n{PROGRAM}"
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tests,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("checked ")
