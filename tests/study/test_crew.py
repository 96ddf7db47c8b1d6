"""Who of a cluster's workers gets an attempt, with a cluster that does what the test says."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
from distributed import KilledWorker

from gentheory.errors import InputError
from gentheory.study import crew as crews
from gentheory.study import plan
from gentheory.study.attempt import Attempt, Ended
from gentheory.study.crew import Crew, SchedulerLostError
from gentheory.study.files import write_json
from gentheory.study.provenance import made_with
from gentheory.study.spec import parse
from gentheory.study.store import Store

DIED = "the worker process died: out of memory, or ended from outside"
FIT = {"host": "node", "sees": True, "threads": 1, "made_with": made_with()}
OLD = {**FIT, "made_with": {**made_with(), "torch": "2.6.0"}}


@dataclass
class Cluster:
    """Stands for Dask's client: workers by what they say of themselves, and what they do."""

    workers: dict[str, Any]
    perform: Callable[[str, dict[str, Any], "Future[Ended]"], None]
    given: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.workers, 1)

    def run(self, _: object, note: str, *, workers: list[str], on_error: str) -> dict[str, Any]:
        assert on_error == "return"
        assert Path(note).exists()
        return {worker: self.workers[worker] for worker in workers}

    def submit(
        self, _: object, path: str, record: dict[str, Any], *, workers: list[str], **__: object
    ) -> "Future[Ended]":
        (worker,), future = workers, Future[Ended]()
        self.given.append((worker, record["shard"]))
        self.perform(worker, record, future)
        return future


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(crews, "LOOK_EVERY", 0.01)
    store = Store.create(tmp_path / "out", parse(tiny.study(stack=1), place="it"))
    store.note_run("this", {})
    return store


@pytest.fixture
def waiting(store: Store) -> deque[Attempt]:
    return deque(Attempt(shard, shard.id) for shard in plan.shards(store.study))


def crew(cluster: Cluster, store: Store, told: list[str], most: int = 9) -> Crew:
    return Crew(cluster, store, "tcp://it:1", most, store.run_note("this"), told.append)


def well(_: str, __: dict[str, Any], future: "Future[Ended]") -> None:
    future.set_result(Ended())


def test_every_attempt_is_made_once(store: Store, waiting: deque[Attempt]) -> None:
    cluster, told, all_of_them = Cluster({"a": FIT, "b": FIT}, well), list[str](), list(waiting)
    ended = list(crew(cluster, store, told).work(waiting))
    assert {attempt.nonce for attempt, _ in ended} == {attempt.nonce for attempt in all_of_them}
    assert {end for _, end in ended} == {Ended()}
    assert {worker for worker, _ in cluster.given} == {"a", "b"}
    assert sorted(shard for _, shard in cluster.given) == sorted(store.sizes)
    assert told == []


def test_no_more_workers_than_are_wanted(store: Store, waiting: deque[Attempt]) -> None:
    cluster = Cluster({"a": FIT, "b": FIT}, lambda *_: None)
    work = crew(cluster, store, [], most=1)
    work._look(strict=True)
    work._hand_out(waiting)
    assert (len(work.busy), len(work.idle), len(waiting)) == (1, 1, 3)


REFUSED = {
    "versions": (OLD, r"worker a on node: found torch 2\.6\.0, expected torch .* as here; in"),
    "source": (
        {**FIT, "made_with": {**made_with(), "gentheory's source": "0"}},
        "worker a on node: found gentheory's source 0, expected gentheory's source .* as here;",
    ),
    "folder": (
        {**FIT, "sees": False},
        r"worker a on node: found no /.*/out/runs/this\.json, which this run has just written, "
        "expected a folder that all machines share, under one path; give an --out on a file",
    ),
    "threads": ({**FIT, "threads": 4}, "worker a on node: found 4 threads, expected one, .*; star"),
    "nothing": (
        ModuleNotFoundError("No module named 'gentheory'"),
        r"worker a: found no usable gentheory \(ModuleNotFoundError: .*\), expected gentheory 0",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_worker_that_does_not_fit_is_refused_at_the_start(
    store: Store, waiting: deque[Attempt], what: str
) -> None:
    answer, message = REFUSED[what]
    cluster = Cluster({"a": answer}, well)
    with pytest.raises(InputError, match=message):
        next(crew(cluster, store, []).work(waiting))
    assert cluster.given == []


def test_a_worker_that_comes_later_is_looked_at_too(store: Store, waiting: deque[Attempt]) -> None:
    told: list[str] = []
    cluster = Cluster({}, well)
    arriving: Iterator[dict[str, Any]] = iter([{}, {"late": FIT, "old": OLD, "gone": OSError()}])
    nthreads = cluster.nthreads

    def one_by_one() -> dict[str, int]:
        cluster.workers |= next(arriving, {})
        return nthreads()

    cluster.nthreads = one_by_one  # type: ignore[method-assign]
    assert len(list(crew(cluster, store, told).work(waiting))) == 4
    assert {worker for worker, _ in cluster.given} == {"late"}
    waits, not_used = told
    assert waits == "Waiting for workers of tcp://it:1 …"
    assert not_used.startswith("Not used: worker old on node: found torch 2.6.0, expected torch")


def test_an_attempt_ends_with_its_worker(store: Store, waiting: deque[Attempt]) -> None:
    def perform(worker: str, record: dict[str, Any], future: "Future[Ended]") -> None:
        if worker == "weak":
            folder = store.inflight_folder(record["shard"], record["nonce"])
            folder.mkdir(parents=True)
            write_json(folder.with_name(f"{folder.name}.json"), {})
            del cluster.workers["weak"]  # and nothing is ever heard of it again
        else:
            future.set_result(Ended())

    cluster = Cluster({"weak": FIT, "strong": FIT}, perform)
    ended = [end for _, end in crew(cluster, store, []).work(waiting)]
    assert sorted(ended, key=str) == [Ended(), Ended(), Ended(), Ended(DIED)]
    assert [worker for worker, _ in cluster.given].count("weak") == 1


def test_an_attempt_that_was_not_begun_is_made_elsewhere_once(
    store: Store, waiting: deque[Attempt]
) -> None:
    """A stack is not to blame for a worker that was gone when it was handed out."""

    def perform(worker: str, record: dict[str, Any], future: "Future[Ended]") -> None:
        if worker == "strong":
            future.set_result(Ended())
        else:
            del cluster.workers[worker]

    cluster = Cluster({"weak": FIT, "strong": FIT}, perform)
    assert [end for _, end in crew(cluster, store, []).work(waiting)] == [Ended()] * 4
    cluster = Cluster({"weak": FIT, "frail": FIT}, perform)
    stack = plan.shards(store.study)[0]
    found = crew(cluster, store, []).work(deque([Attempt(stack, stack.id)]))
    assert [end for _, end in found] == [Ended(DIED)]


def test_a_worker_that_died_of_an_attempt_gets_no_other(
    store: Store, waiting: deque[Attempt]
) -> None:
    """The scheduler may have it on its list for a while."""
    victims = list[str]()

    def perform(worker: str, record: dict[str, Any], future: "Future[Ended]") -> None:
        if not victims:
            victims.append(worker)
            future.set_exception(KilledWorker("shard", None, 0))
        else:
            future.set_result(Ended())

    cluster = Cluster({"a": FIT, "b": FIT}, perform)
    ended = [end for _, end in crew(cluster, store, []).work(waiting)]
    assert sorted(ended, key=str) == [Ended(), Ended(), Ended(), Ended(DIED)]
    assert [worker for worker, _ in cluster.given].count(victims[0]) == 1


def test_a_stack_that_fails_on_a_worker_is_tried_on_another(
    store: Store, waiting: deque[Attempt]
) -> None:
    def perform(worker: str, record: dict[str, Any], future: "Future[Ended]") -> None:
        future.set_result(Ended("no such data", blameless=True) if worker == "bad" else Ended())

    cluster = Cluster({"bad": FIT, "good": FIT}, perform)
    failed = 0
    for attempt, ended in crew(cluster, store, []).work(waiting):
        if ended.reason:
            failed += 1
            waiting.append(attempt.at(attempt.stack))
    assert sorted(shard for worker, shard in cluster.given if worker == "good") == [
        *sorted(store.sizes)
    ]
    assert failed == sum(worker == "bad" for worker, _ in cluster.given) <= 4


def test_a_stack_that_has_failed_everywhere_is_tried_anywhere(
    store: Store, waiting: deque[Attempt]
) -> None:
    cluster = Cluster({"only": FIT}, lambda *call: call[2].set_result(Ended("it broke")))
    attempt = waiting[0]
    again, ends = iter([attempt.at(attempt.stack)] * 2), list[Ended]()
    for _, ended in crew(cluster, store, []).work(one := deque([attempt])):
        ends.append(ended)
        one.extend(item for item in [next(again, None)] if item is not None)
    assert ends == [Ended("it broke")] * 3


@pytest.mark.parametrize("sign", ["no answer", "closed client", "cancelled future"])
def test_a_scheduler_that_goes_away_ends_the_run(
    store: Store, waiting: deque[Attempt], sign: str
) -> None:
    def perform(_: str, __: dict[str, Any], future: "Future[Ended]") -> None:
        if sign == "cancelled future":
            future.cancel()
        else:
            error = {"no answer": TimeoutError(), "closed client": ValueError("closed")}[sign]
            cluster.nthreads = lambda: (_ for _ in ()).throw(error)  # type: ignore

    cluster = Cluster({"a": FIT}, perform)
    message = "tcp://it:1: found no scheduler any more, .*; start a scheduler and workers again, .*"
    with pytest.raises(SchedulerLostError, match=message):
        list(crew(cluster, store, []).work(waiting))
