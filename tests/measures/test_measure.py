"""`measure`: names, options, seeds, and failures as data."""

import json
import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from cases import CASES

import gentheory as gt
from gentheory import measures
from gentheory.checkpoint import Checkpoint
from gentheory.estimate import Estimate


@pytest.fixture
def risk() -> gt.EmpiricalRisk:
    return CASES["mlp"].risk()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A family `norms` whose measures go wrong in one way each."""

    def arithmetic(checkpoint: Checkpoint, *, generator: torch.Generator) -> Estimate:
        return Estimate(1 / 0)

    def mistake(checkpoint: Checkpoint, *, generator: torch.Generator) -> Estimate:
        return Estimate({}["missing"])

    def infinite(checkpoint: Checkpoint, *, generator: torch.Generator) -> Estimate:
        return Estimate(math.inf)

    def torches(checkpoint: Checkpoint, *, generator: torch.Generator) -> Estimate:
        return Estimate(float(torch.linalg.inv(torch.zeros(2, 2))[0, 0]))

    def norms(checkpoint: Checkpoint, *, factor: float = 1.0, generator: torch.Generator) -> Any:
        return Estimate(factor * float(torch.rand((), generator=generator)))

    def other(checkpoint: Checkpoint, *, generator: torch.Generator) -> Estimate:
        return Estimate(float(torch.rand((), generator=generator)))

    family = ModuleType("gentheory.measures.norms")
    family.__dict__.update(
        locals(), __all__=["arithmetic", "infinite", "mistake", "norms", "other", "torches"]
    )
    monkeypatch.setitem(sys.modules, "gentheory.measures.norms", family)
    return family


def test_names_are_families_and_functions():
    names = measures.names()
    assert {"norms.distance", "spectra.top", "tic.diagonal", "tic.exact"} <= set(names)
    assert [n.partition(".")[0] for n in names] == sorted(n.partition(".")[0] for n in names)
    for name in names:
        assert measures.find(name).__name__ == name.partition(".")[2]


def test_several_measures_of_a_risk(risk: gt.EmpiricalRisk):
    results = gt.measure(risk, ["norms.parameters", "tic.diagonal", "norms.distance"], seed=3)
    assert list(results) == ["norms.parameters", "tic.diagonal", "norms.distance"]
    assert len(results) == 3
    assert results["norms.parameters"].value == pytest.approx(risk.theta.norm().item(), rel=1e-14)
    assert [e.status for e in results.values()] == ["ok", "ok", "refused"]
    assert results["norms.distance"].reason.startswith("norms.distance: found no initial param")
    assert all(seconds >= 0 for seconds in results.seconds.values())


def test_a_checkpoint_knows_its_start(risk: gt.EmpiricalRisk):
    results = gt.measure(Checkpoint(risk, torch.zeros_like(risk.theta)), "norms.distance")
    assert results["norms.distance"].value == pytest.approx(risk.theta.norm().item(), rel=1e-14)


def test_a_value_does_not_depend_on_the_others(risk: gt.EmpiricalRisk):
    name = "spectra.trace_xtrace"
    alone = gt.measure(risk, name, seed=1)[name]
    among = gt.measure(risk, ["spectra.top", "tic.trace_ratio", name], seed=1)
    assert among[name] == alone
    assert gt.measure(risk, name, seed=2)[name].value != alone.value


def test_progress_comes_before_each_measure(risk: gt.EmpiricalRisk):
    seen: list[str] = []
    gt.measure(risk, ["norms.parameters", "norms.distance"], progress=seen.append)
    assert seen == ["norms.parameters", "norms.distance"]


def test_options_reach_their_measure(risk: gt.EmpiricalRisk):
    options = {"tic.exact": {"damping": 0.5}, "spectra.trace": {"num_probes": 7}}
    results = gt.measure(risk, ["tic.exact", "spectra.trace"], options=options)
    assert results["tic.exact"].stats["damping"] == pytest.approx(0.5, rel=1e-14)
    assert results["spectra.trace"].stats["num_samples"] == 7


def test_results_as_a_table_and_as_json(risk: gt.EmpiricalRisk):
    results = gt.measure(risk, ["tic.exact", "norms.distance"])
    frame = results.to_frame()
    assert list(frame.index) == ["tic.exact", "norms.distance"]
    assert list(frame.columns) == [
        "value", "stderr", "status", "reason", "warnings", "stats", "seconds",
    ]  # fmt: skip
    assert frame.loc["tic.exact", "value"] == results["tic.exact"].value
    assert json.loads(frame.loc["tic.exact", "stats"])["curvature"] == "ggn"
    assert frame.loc["tic.exact", "seconds"] == results.seconds["tic.exact"]
    record = json.loads(results.to_json())
    assert record["norms.distance"]["value"] is None
    assert record["tic.exact"] == json.loads(results["tic.exact"].to_json())
    assert "norms.distance" in repr(results)


def test_no_measure_is_an_empty_table(risk: gt.EmpiricalRisk):
    results = gt.measure(risk, [])
    assert (len(results), len(results.to_frame()), results.to_json()) == (0, 0, "{}")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        *(
            (f"tic.{name}", "tic.blocks, tic.diagonal, tic.ekfac")
            for name in ("kfoc", "", "_Modes")
        ),
        ("tics", "tic,"),
        ("spectre.top", "spectra.top"),
        (".exact", "tic.exact"),
        ("", "norms, "),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_ones(
    risk: gt.EmpiricalRisk, name: str, near: str
):
    told = rf"measure: found '{name}', expected one of (.*, )?{near}.* lists them all"
    with pytest.raises(gt.InputError, match=told):
        gt.measure(risk, ["norms.parameters", name])


def test_a_family_stands_for_its_measures(risk: gt.EmpiricalRisk):
    found = gt.measure(risk, ["norms.parameters", "norms"])
    assert next(iter(found)) == "norms.parameters"
    assert set(found) == {name for name in measures.names() if name.startswith("norms.")}
    assert measures.expanded("norms") == [n for n in measures.names() if n.startswith("norms.")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tic.exact": {"damp": 1.0}}, "options of 'tic.exact': found 'damp', expected one of cur"),
        ({"tic.exact": {"generator": 1}}, "options of 'tic.exact': found 'generator'"),
        (
            {"tic.diagonal": {}},
            "options of 'tic.diagonal': found a measure not asked for, expected",
        ),
        ({"nothing": {}}, "options of 'nothing': found a measure not asked for"),
    ],
)
def test_options_that_nobody_takes_are_refused(
    risk: gt.EmpiricalRisk, options: dict[str, dict[str, Any]], message: str
):
    with pytest.raises(gt.InputError, match=message):
        gt.measure(risk, ["tic.exact"], options=options)


def test_what_does_not_fit_is_refused_as_data(risk: gt.EmpiricalRisk):
    options = {"tic.exact": {"max_params": 5}}
    results = gt.measure(risk, ["tic.exact", "tic.diagonal"], options=options)
    assert results["tic.exact"].status == "refused"
    assert "at most max_params = 5; use one in sample space" in results["tic.exact"].reason
    assert results["tic.diagonal"].status == "ok"


def test_bad_data_raise_before_anything_is_measured():
    module, (x, y) = CASES["mlp"].module, CASES["mlp"].data
    subject = gt.EmpiricalRisk(module, "cross_entropy", (x, y + 5))
    with pytest.raises(gt.InputError, match=r"example 0: found target \d+, expected a class of 0"):
        gt.measure(subject, ["norms.parameters"])


@pytest.mark.parametrize(
    ("name", "option", "value", "expected"),
    [
        ("tic.exact", "damping", "abc", r"damping = 'abc', expected a value of type .*float"),
        ("tic.exact", "centred", 1, "centred = 1, expected a value of type bool"),
        ("tic.exact", "curvature", "signed", "curvature = 'signed'"),
        ("spectra.top", "k", 1.5, "k = 1.5, expected a value of type int"),
    ],
)
def test_an_option_of_the_wrong_type_is_named(risk, name, option, value, expected):
    with pytest.raises(gt.InputError, match=expected):
        gt.measure(risk, [name], options={name: {option: value}})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("norms.arithmetic", "ZeroDivisionError: division by zero"),
        ("norms.torches", "_LinAlgError: linalg.inv: "),
        ("norms.infinite", "norms.infinite came out as inf"),
    ],
)
@pytest.mark.usefixtures("broken")
def test_failures_are_data(risk: gt.EmpiricalRisk, name: str, reason: str):
    results = gt.measure(risk, [name, "norms.norms"])
    assert results[name].status == "failed"
    assert results[name].reason.startswith(reason)
    assert math.isnan(results[name].value)
    assert results["norms.norms"].status == "ok"


@pytest.mark.usefixtures("broken")
def test_a_mistake_in_the_code_is_raised_unless_thousands_wait(risk: gt.EmpiricalRisk):
    with pytest.raises(KeyError, match="missing"):
        gt.measure(risk, ["norms.mistake"])
    estimate = gt.measure(risk, ["norms.mistake"], strict=False)["norms.mistake"]
    assert (estimate.status, estimate.reason) == ("failed", "KeyError: 'missing'")


@pytest.mark.usefixtures("broken")
def test_a_bare_family_means_the_function_of_that_name(risk: gt.EmpiricalRisk):
    results = gt.measure(risk, "norms", options={"norms": {"factor": 2.0}})
    once = gt.measure(risk, "norms")
    assert results["norms"].value == 2 * once["norms"].value


def test_variants_of_a_measure_stand_side_by_side(risk):
    options = {"tic.exact:strong": {"damping": 0.1}}
    found = gt.measure(risk, ["tic.exact", "tic.exact:strong"], options=options)
    assert found["tic.exact"].stats["damping"] == pytest.approx(1e-3)
    assert found["tic.exact:strong"].stats["damping"] == pytest.approx(0.1)
    assert found["tic.exact:strong"].value < found["tic.exact"].value


@pytest.mark.usefixtures("broken")
def test_trap_38_each_measure_draws_from_a_stream_of_its_own(risk: gt.EmpiricalRisk):
    results = gt.measure(risk, ["norms.norms", "norms.other"], seed=4)
    assert results["norms.norms"].value != results["norms.other"].value
    again = gt.measure(risk, ["norms.other", "norms.norms"], seed=4)
    assert dict(again) == dict(results)
