"""The benchmarks' harness: pairs, ratios, rows, page. The peers themselves are not needed."""

import json
import math
import re
import sys
import tomllib
from itertools import count
from pathlib import Path

import pytest
import torch

from benchmarks import flops, memory, nets, timing
from benchmarks.catalogue import COMPARISONS
from benchmarks.contest import OURS, Comparison, Job, relative
from benchmarks.nets import NETS, Problem, build, images
from benchmarks.page import seconds, size, times, write_page
from benchmarks.rows import Row, row

ROOT = Path(__file__).parents[1]
ABOUT = {"device": "CPU", "threads": 2, "data": "digits", "comparisons": "2 of 3", "seconds": 9}


class Clock:
    """Stands still but for what jobs add."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.order = 0.0, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.gc, "collect", lambda: 0)  # it would take most of the test

    def job(self, name: str, *durations: float) -> Job:
        """Takes these seconds, one after the other, the last one for ever after."""
        calls = count()

        def run() -> str:
            self.order.append(name)
            self.now += durations[min(next(calls), len(durations) - 1)]
            return f"{name} ran"

        return Job(run)


def measured(**changes: object) -> dict:
    """What a worker would say about a row with two peers."""
    found = {
        "seconds": {OURS: [1.0, 2.0, 1.0], "a": [4.0, 4.0, 4.0], "b": [3.0, 3.0, 3.0]},
        "failures": {},
        "differences": {OURS: 0.0, "a": 1e-6, "b": 1e-6},
        "flops": 5.0,
        "params": 7,
        "examples": 11,
    }
    return {**found, **changes}


def comparison(**changes: object) -> Comparison:
    prepare = {name: lambda problem: Job(lambda: None) for name in (OURS, "a", "b")}
    return Comparison(**{"work": "work", "net": "mlp", "contestants": prepare, **changes})


def test_contestants_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    jobs = {OURS: clock.job(OURS, 1.0), "peer": clock.job("peer", 1.5)}
    found = timing.in_turn(jobs, budget=7.0)
    assert clock.order == [OURS, "peer"] * 4  # one round to warm up
    assert found.seconds == {OURS: [1.0] * 3, "peer": [1.5] * 3}
    assert found.results == {OURS: f"{OURS} ran", "peer": "peer ran"}


def test_first_runs_that_only_warm_up_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    jobs = {OURS: clock.job(OURS, 0.9, 0.1), "peer": clock.job("peer", 1.0, 0.2)}
    found = timing.in_turn(jobs, budget=0.0, at_least=2)
    assert found.seconds["peer"] == pytest.approx([0.2, 0.2])
    assert found.seconds[OURS] == pytest.approx([0.1, 0.1])


def test_long_first_runs_are_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    own, other = timing.LONG_SECONDS + 1, timing.LONG_SECONDS + 2
    jobs = {OURS: clock.job(OURS, own), "peer": clock.job("peer", other)}
    found = timing.in_turn(jobs, budget=2.5 * (own + other))
    assert clock.order == [OURS, "peer"] * 3
    assert found.seconds == {OURS: [own] * 3, "peer": [other] * 3}


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [(0.0, 2), (2.0, 2), (6.0, 3), (30.0, 5), (1000.0, 5)],  # with 3 s a round
)
def test_rounds_end_when_the_ratio_is_known_or_the_budget_is_spent(
    budget: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    jobs = {OURS: clock.job(OURS, 1.0), "peer": clock.job("peer", 2.0)}
    found = timing.in_turn(jobs, budget=budget)
    assert len(found.seconds["peer"]) == rounds


def test_rounds_go_on_while_the_ratio_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    jobs = {OURS: clock.job(OURS, 1.0), "peer": clock.job("peer", *[1.0, 2.0] * 10)}
    found = timing.in_turn(jobs, budget=20.0)
    assert len(found.seconds["peer"]) == 8  # 2.5 s a round


def test_a_peer_far_behind_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    jobs = {
        OURS: clock.job(OURS, 4.5),  # we ourselves always run again
        "near": clock.job("near", 3.0),
        "far": clock.job("far", 4.0),
    }
    found = timing.in_turn(jobs, budget=0.0)
    assert found.seconds == {OURS: [4.5, 4.5], "near": [3.0, 3.0], "far": [4.0]}


def test_a_contestant_that_raises_is_out_with_its_reason() -> None:
    def fails() -> None:
        raise ValueError("no such layer\nand more")

    found = timing.in_turn({OURS: Job(lambda: 1), "peer": Job(fails)}, budget=0.0, at_least=1)
    assert found.failures == {"peer": "ValueError: no such layer"}
    assert list(found.seconds) == [OURS]


def test_ratio_is_that_of_pairs() -> None:
    # The machine slows down by ten in the middle: the pairs do not notice.
    found = timing.ratio([2.0, 20.0, 2.2, 21.0, 3.0], [1.0, 10.0, 1.0, 10.0, 1.0])
    assert (found.median, found.low, found.high) == pytest.approx((2.1, 2.0, 2.2))
    once = timing.ratio([6.0], [2.0, 1.0])
    assert (once.median, once.low, once.high) == (3.0, 3.0, 3.0)


def test_best_is_the_fastest_peer() -> None:
    assert timing.best({OURS: [0.1], "a": [3.0, 1.0, 3.0], "b": [2.0]}) == "b"
    assert timing.best({OURS: [0.1]}) is None


def test_row_compares_with_the_best_peer() -> None:
    made = row(comparison(target=3.0), measured(), rate=10.0)
    assert made.best == "b"
    assert [peer.name for peer in made.peers] == ["b", "a"]
    assert made.standing is not None
    assert made.standing.ratio == timing.Ratio(3.0, 2.25, 3.0)
    assert made.reached
    assert not row(comparison(target=3.1), measured(), rate=10.0).reached
    assert made.share == pytest.approx(0.5)  # 5 operations in a second, at a rate of 10
    assert made.ceiling == pytest.approx(6.0)  # at the whole rate it would take 0.5 s


def test_an_answer_that_disagrees_does_not_count() -> None:
    found = measured(differences={OURS: 0.0, "a": 1e-6, "b": 0.5})
    made = row(comparison(notes={"b": "biased"}), found, rate=10.0)
    assert made.best == "a"
    (peer,) = made.disagreements
    assert (peer.name, peer.difference, peer.note) == ("b", 0.5, "biased")
    assert "b 3 s (3.00x) DISAGREES by 0.5" in made.line()


def test_nan_is_no_agreement() -> None:
    made = row(comparison(), measured(differences={OURS: 0.0, "a": 0.0, "b": math.nan}), rate=1.0)
    assert [peer.name for peer in made.disagreements] == ["b"]


def test_a_peer_may_have_a_target_of_its_own() -> None:
    found = measured()
    easy = comparison(target=3.0, targets={"b": 2.9})
    assert row(easy, found, rate=1.0).best == "a"
    assert row(easy, found, rate=1.0).reached
    assert not row(comparison(target=3.0, targets={"b": 50.0}), found, rate=1.0).reached


@pytest.mark.parametrize(("target", "reached"), [(1.5, True), (0.5, False)])
def test_without_peers_the_target_is_in_seconds(target: float, reached: bool) -> None:
    found = measured(seconds={OURS: [1.0]}, differences={OURS: 0.0})
    assert row(comparison(target=target), found, rate=1.0).reached is reached


def test_without_our_own_time_nothing_is_reached() -> None:
    found = measured(
        seconds={"a": [1.0]}, differences={"a": 0.0}, failures={OURS: "MemoryError: too large"}
    )
    made = row(comparison(target=0.1), found, rate=1.0)
    assert not made.reached
    assert made.seconds is None
    assert "MemoryError: too large" in made.line()


def _rows() -> list[Row]:
    plain = row(comparison(work="<work>"), measured(), rate=10.0)
    other = measured(differences={OURS: 0.0, "a": math.nan, "b": 0.0}, flops=None)
    return [plain, row(comparison(work="another", target=9.0), other, rate=10.0)]


def test_page_has_all_rows_and_marks_them(tmp_path: Path) -> None:
    about = {**ABOUT, "versions": {"torch": "2"}}
    page = write_page(_rows(), about, tmp_path).read_text("utf-8")
    assert "&lt;work&gt;" in page
    assert "1 of 2 rows reach their target" in page
    assert "2 of 3 comparisons in 9 s" in page  # it was stopped, or a process died
    assert "a in “another”, mlp, by nan" in page
    assert not re.search(r'(src|href)="(?!data:|#|index\.json)', page)


def test_numbers_of_the_page_are_plain_json(tmp_path: Path) -> None:
    write_page(_rows(), ABOUT, tmp_path)
    numbers = json.loads((tmp_path / "index.json").read_text("utf-8"))
    first, second = numbers["rows"]
    assert first["times"] == measured()["seconds"]
    assert (first["reached"], second["reached"]) == (True, False)
    assert second["peers"][1]["difference"] is None
    assert numbers["about"] == ABOUT


def test_numbers_are_written_shortly() -> None:
    assert (seconds(0.0123), seconds(12.34)) == ("12.3\u00a0ms", "12.3\u00a0s")
    assert (size(3 * 2**20), size(5.0), size(math.nan)) == ("3\u00a0MB", "< 1\u00a0MB", "–")
    assert (times(2.0), times(23.456), times(184.2)) == ("2.00×", "23.5×", "184×")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_sees_what_is_freed_again() -> None:
    kept = memory.growth(lambda: torch.ones(2**24).sum(), torch.device("cpu"))  # 64 MiB
    assert 60 * 2**20 < kept < 80 * 2**20
    assert memory.growth(lambda: None, torch.device("cpu")) < 2 * 2**20


def test_catalogue_is_whole() -> None:
    names = [comparison.name for comparison in COMPARISONS]
    assert len(set(names)) == len(names)
    assert all(OURS in comparison.contestants for comparison in COMPARISONS)
    assert {comparison.net for comparison in COMPARISONS} == set(NETS)


def test_pins_of_the_extra_and_of_the_environment_agree() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements-bench.txt").read_text().splitlines()
    assert set(extra["optional-dependencies"]["bench"]) <= set(lines)


def test_images_without_a_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    x, y = images(100)
    assert x.shape == (100, 1, 28, 28)
    assert y.shape == (100,)


def problem(net: str, examples: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    side = nets.SIDES.get(net, 28)
    x = torch.randn(examples, 1, side, side, generator=generator)
    return Problem(net, build(net).eval(), x, torch.arange(examples) % 10)


def test_nets_have_the_sizes_they_are_said_to_have() -> None:
    sizes = {net: problem(net, 1).num_params for net in NETS}
    assert sizes == {
        "mlp": 269_322,
        "small": 49_950,
        "middle": 26_122,
        "tiny": 720,
        "cnn": 48_958,
        "resnet": 271_994,
        "transformer": 104_842,
    }


def test_nets_and_images_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENTHEORY_DATA", raising=False)
    monkeypatch.setattr(nets, "train", lambda model, x, y: model.head.weight.data.zero_())
    first = nets.problem("transformer", examples=7, device="cpu", cache=tmp_path)
    monkeypatch.delattr(nets, "images")  # another process need not read the data
    again = nets.problem("transformer", examples=5, device="cpu", cache=tmp_path)
    assert again.params[-2].abs().max() == 0
    assert torch.equal(again.x, first.x[:5])
    assert torch.equal(again.y, first.y[:5])


@pytest.mark.parametrize("net", NETS)
def test_nets_are_the_same_each_time(net: str) -> None:
    one, two = problem(net, 3), problem(net, 3)
    assert torch.equal(one.model(one.x), two.model(two.x))


def test_flops_of_a_chain() -> None:
    work = problem("mlp", 3)
    first, rest = 784 * 256, 256 * 256 + 256 * 10
    assert flops.hessian_product(work) == 2 * 3 * (2 * first + 6 * rest)
    assert flops.ggn_product(work) == 2 * 3 * (2 * first + 4 * rest)
    convolutions = flops.layers(problem("cnn", 1))[:2]
    assert [layer.macs for layer in convolutions] == [784 * 9 * 8, 196 * 72 * 16]


def test_relative_difference() -> None:
    assert relative(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.08)
