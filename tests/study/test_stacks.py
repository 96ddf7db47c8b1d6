"""Stacks whose size a trial chooses, once for a study's folder."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny

from gentheory.errors import InputError
from gentheory.study import plan, stacks
from gentheory.study.spec import Study, parse
from gentheory.study.store import Store


def study(**changes: Any) -> Study:
    return parse({**tiny.study(), **changes}, place="it")


LABEL = study().parts[0].architectures[0].label


def refuse(*given: Any) -> int:
    raise AssertionError("a second trial")


def test_a_trial_chooses_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = study(try_stacks=True)
    tried: list[str] = []
    monkeypatch.setattr(stacks, "_size", lambda point, _: tried.append(point.family) or 3)
    store = Store.create(tmp_path / "study", asked)
    assert tried == [architecture.label for architecture in asked.parts[0].architectures]
    assert set(store.study.parts[0].stacks.values()) == {3}
    assert list(store.sizes.values()) == [len(shard.points) for shard in plan.shards(store.study)]
    assert max(store.sizes.values()) == 3
    monkeypatch.setattr(stacks, "_size", refuse)
    assert Store.create(store.path, asked) == store == Store.open(store.path)
    assert [shard.id for shard in store.missing()] == list(store.sizes)


def test_given_numbers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_size", refuse)
    given = study(try_stacks=True, stacks={LABEL: 1})
    assert stacks.chosen(given) == given
    assert {len(shard.points) for shard in plan.shards(given)} == {1}
    assert stacks.chosen(study()) == study()


def test_another_study_is_told_apart_whatever_the_trial_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "_size", lambda *given: 3)
    store = Store.create(tmp_path / "study", study(try_stacks=True))
    with pytest.raises(InputError, match="with another specification"):
        Store.create(store.path, study(try_stacks=True, seed=5))
    with pytest.raises(InputError, match="with another specification"):
        Store.create(store.path, study())


def test_a_real_trial() -> None:
    found = stacks.chosen(study(try_stacks=True)).parts[0]
    assert all(1 <= size <= 512 for size in found.stacks.values())
    assert found.stacks.keys() == {LABEL}


def test_a_number_for_an_unknown_architecture() -> None:
    with pytest.raises(InputError, match=re.escape("stacks: ['giant'] are not among")):
        study(stacks={"giant": 2})
