"""Every kind of figure on tiny nets: tables that are what the measures say."""

import numpy as np
import pytest
import torch
from torch import nn

from gentheory.checkpoint import Checkpoint
from gentheory.errors import InputError
from gentheory.figures.classes import classes
from gentheory.figures.collapse import METRICS, collapse, trajectories
from gentheory.figures.density import density
from gentheory.figures.eigenvalues import eigenvalues
from gentheory.figures.kernel import kernel
from gentheory.figures.landscape import landscape
from gentheory.figures.stages import Stage, stages, times
from gentheory.landscape import directions as ways
from gentheory.measures import measure
from gentheory.params import flatten
from gentheory.plots.frame import numbers
from gentheory.risk import EmpiricalRisk


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def checkpoint(seed=1, *, steps=20, initial=0, epoch=None):
    draws = torch.Generator().manual_seed(3)
    targets = torch.arange(24) % 3
    inputs = torch.randn(24, 3, generator=draws, dtype=torch.float64) + 2 * torch.eye(3)[targets]
    start = None if initial is None else flatten(net(initial))
    record = {} if epoch is None else {"epoch": epoch}
    risk = EmpiricalRisk(net(seed), "cross_entropy", (inputs, targets))
    return Checkpoint(risk, start, steps, record=record)


def course():
    """Three stages, the first of them the initial parameters."""
    return stages(checkpoint(epoch=4), [checkpoint(2, steps=5, epoch=1)])


def draws_both_ways(drawings):
    """Each with its own sizes and with those of a narrow window; the axes of the first."""
    grids = {}
    for drawing in drawings:
        assert drawing.title
        assert drawing.caption.endswith(".")
        narrow = drawing.draw(**drawing.narrow)[0].get_figure()
        assert narrow.get_figwidth() <= 4.0
        grids[drawing.name] = drawing.draw()
    assert len(grids) == len(drawings)
    return grids


def test_density_has_both_matrices_and_an_eigenvalue_for_each_output():
    subject = checkpoint()
    (drawing,) = density(subject, num_probes=3, num_steps=9)
    table, marked = drawing.tables["density"], drawing.tables["outliers"]
    for series, curvature in (("Hessian", "hessian"), ("GGN", "ggn")):
        own = table.loc[table["series"] == series]
        assert np.trapezoid(own["density"], own["eigenvalue"]) == pytest.approx(1, abs=1e-6)
        options = {"spectra.top": {"k": 3, "curvature": curvature}}
        top = measure(subject, "spectra.top", options=options)["spectra.top"]
        found = marked.loc[marked["series"] == series, "eigenvalue"]
        np.testing.assert_allclose(found, top.stats["eigenvalues"], rtol=1e-3)
    grids = draws_both_ways([drawing])
    assert [axes.get_title() for axes in grids["density"]] == ["Hessian", "GGN"]


def test_kernel_before_and_after_training_and_its_way():
    drawings = kernel(checkpoint(), course())
    spectrum, drift = drawings
    table = spectrum.tables["kernel_spectrum"]
    trained = table.loc[table["series"] == "after training", "eigenvalue"]
    known = measure(checkpoint(), "ntk.spectrum")["ntk.spectrum"]
    np.testing.assert_allclose(trained.iloc[:20], known.stats["eigenvalues"], rtol=1e-9)
    assert set(table["series"]) == {"at initialization", "after training"}
    moved = drift.tables["kernel_drift"]
    distances = moved.loc[[str(p).startswith("distance") for p in moved["panel"]]]
    assert list(distances["epoch"]) == [0, 1, 4]
    assert distances["value"].iloc[0] == pytest.approx(0.0, abs=1e-12)
    last = measure(checkpoint(), "ntk.distance")["ntk.distance"].value
    assert distances["value"].iloc[-1] == pytest.approx(last)
    draws_both_ways(drawings)
    (alone,) = kernel(checkpoint(initial=None))
    assert set(alone.tables["kernel_spectrum"]["series"]) == {"after training"}


def test_eigenvalues_at_every_stage():
    (drawing,) = eigenvalues(course(), k=2)
    table = drawing.tables["eigenvalues"]
    assert set(table["epoch"]) == {0, 1, 4}
    own = table.loc[(table["panel"] == "Hessian") & (table["epoch"] == 4)].set_index("series")
    found = measure(checkpoint(), ["spectra.top", "spectra.bottom"])
    assert own.loc["λ1", "value"] == pytest.approx(found["spectra.top"].value, rel=1e-3)
    assert own.loc["−λ_min", "value"] == pytest.approx(-found["spectra.bottom"].value, rel=1e-3)
    draws_both_ways([drawing])


def test_classes_are_those_of_the_measure():
    drawings = classes({"one": checkpoint(), "two": checkpoint(2)})
    table = drawings[0].tables["class_spectra"]
    own = table.loc[table["series"] == "one"]
    found = measure(checkpoint(), "spectra.by_class")["spectra.by_class"].stats
    np.testing.assert_allclose(own["ratio"], found["ratios"], rtol=1e-3)
    assert list(own["count"]) == [8, 8, 8]
    draws_both_ways(drawings)


def test_collapse_has_the_frame_and_the_metrics_of_the_measures():
    drawings = collapse(checkpoint(), course())
    means, along = drawings
    table = means.tables["class_means"]
    frame = table.loc[table["panel"] == "simplex ETF", "value"]
    np.testing.assert_allclose(sorted(frame), [-0.5] * 6 + [1.0] * 3)
    angles = table.loc[(table["panel"] == "class means") & (table["row"] != table["column"])]
    off = np.abs(angles["value"] + 0.5).mean()
    found = measure(checkpoint(), list(METRICS))
    assert off == pytest.approx(found["collapse.equiangle"].value)
    last = along.tables["collapse"].loc[along.tables["collapse"]["epoch"] == 4]
    for name, panel in METRICS.items():
        own = last.loc[last["panel"] == panel]
        assert own["value"].item() == pytest.approx(found[name].value)
    grids = draws_both_ways(drawings)
    assert len(grids["collapse"]) == len(METRICS)
    assert len(collapse(checkpoint())) == 1


def test_errors_end_where_no_example_is_wrong_any_more():
    fitted = checkpoint(epoch=4)
    with torch.no_grad():
        targets = torch.arange(24) % 3
        inputs = 10 * torch.eye(3, dtype=torch.float64)[targets]
    exact = nn.Linear(3, 3).double()
    exact.load_state_dict({"weight": torch.eye(3), "bias": torch.zeros(3)})
    risk = EmpiricalRisk(exact, "cross_entropy", (inputs, targets))
    done = Stage(20, 4, Checkpoint(risk, None, 20))
    wrong = Stage(10, 2, Checkpoint(risk.at(-risk.theta), None, 10))
    drawing = trajectories({"a net": (wrong, done)})
    upright = [line for line in drawing.draw()[0].get_lines() if list(line.get_ydata()) == [0, 1]]
    assert [line.get_xdata()[0] for line in upright] == [1.0]
    assert not stages(checkpoint(steps=None))
    assert fitted.steps == 20


@pytest.mark.parametrize("directions", ["filter", "layer", "random", "eigen", "gradient"])
def test_landscapes_have_the_trained_loss_at_their_centre(directions):
    subject = checkpoint()
    line, plane = landscape(subject, course(), directions=directions, points=5, reach=0.5)
    loss = float(subject.risk.value())
    table = plane.tables["plane"]
    assert len(table) == 25
    centre = table.loc[(table["first"] == 0) & (table["second"] == 0)]
    assert centre["loss"].item() == pytest.approx(loss)
    middle = line.tables["line"].loc[line.tables["line"]["distance"] == 0]
    np.testing.assert_allclose(middle["loss"], loss)
    assert ("trajectory" in plane.tables) == (directions in ("eigen", "gradient"))
    if directions == "gradient":
        first = table.loc[table["second"] == 0].sort_values("first")["loss"]
        assert first.iloc[3] - first.iloc[1] > 0
    draws_both_ways([line, plane])
    (sheet, *_) = plane.surface().data
    assert sheet.z.shape == (5, 5)


def test_the_plane_of_the_trajectory_ends_at_the_centre():
    found = course()
    _, plane = landscape(checkpoint(), found, directions="trajectory", points=5)
    path = plane.tables["trajectory"]
    assert list(path["step"]) == [0, 5, 20]
    np.testing.assert_allclose(path.iloc[-1][["first", "second"]].astype(float), 0, atol=1e-9)
    thetas = torch.stack([stage.checkpoint.risk.theta for stage in found])
    parts = ways.principal(thetas, centre=thetas[-1])
    np.testing.assert_allclose(path["first"], parts.coordinates[:, 0])
    for name in ("first", "second"):
        ends = plane.tables["plane"][name]
        assert ends.min() < numbers(path, name).min()
        assert numbers(path, name).max() < ends.max()


def test_lines_by_class_have_a_series_each():
    line, _ = landscape(checkpoint(), points=3, by_class=True)
    assert set(line.tables["line"]["series"]) == {"all examples", "class 0", "class 1", "class 2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": "diagonal"}, r"directions: found 'diagonal', expected one of filter, lay"),
        ({"directions": "trajectory"}, r"found 0 times in training, expected at least 3"),
        ({"points": 2}, r"points: found 2, expected at least 3"),
        ({"reach": 0.0}, r"reach: found 0, expected a positive number"),
    ],
)
def test_landscapes_that_cannot_be_drawn(options, message):
    with pytest.raises(InputError, match=message):
        landscape(checkpoint(), **options)


def test_stages_are_in_order_and_none_twice():
    found = stages(checkpoint(epoch=4), [checkpoint(steps=20, epoch=4), checkpoint(2, steps=5)])
    assert [stage.steps for stage in found] == [0, 5, 20]
    torch.testing.assert_close(found[0].checkpoint.risk.theta, flatten(net(0)))
    # An epoch is missing, so that steps tell them apart.
    assert times(found, "here") == ("steps", [{"steps": 0}, {"steps": 5}, {"steps": 20}])
    assert times(course(), "here")[0] == "epoch"
    assert [stage.steps for stage in stages(checkpoint(initial=None))] == [20]
    with pytest.raises(InputError, match=r"here: found 1 times in training, expected at least 2"):
        times(found[:1], "here")


def test_batch_norm_has_no_initial_stage():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    data = torch.randn(8, 3, dtype=torch.float64), torch.arange(8) % 2
    risk = EmpiricalRisk(module, "cross_entropy", data)
    found = stages(Checkpoint(risk, torch.zeros_like(risk.theta), 7))
    assert [stage.steps for stage in found] == [7]


def test_figures_without_their_numbers_are_none():
    inputs = torch.randn(8, 3, dtype=torch.float64)
    risk = EmpiricalRisk(nn.Linear(3, 1).double(), "mse", (inputs, inputs[:, :1]))
    with pytest.raises(InputError, match=r"expected classes, whole numbers"):
        classes(Checkpoint(risk))
    with pytest.raises(InputError, match=r"curvature: found 'fisher', expected 'hessian' or"):
        classes(checkpoint(), curvature="fisher")
    broken = checkpoint()
    nowhere = Checkpoint(broken.risk.at(torch.full_like(broken.risk.theta, torch.nan)))
    with pytest.raises(InputError, match=r"spectra\.density:hessian: found parameters, 0\.weight"):
        density(nowhere, num_probes=2, num_steps=3)
