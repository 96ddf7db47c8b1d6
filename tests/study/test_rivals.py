"""What a user would do instead of measuring, against plain loops; and measures on other data."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from gentheory import checkpoint, measures, models
from gentheory.data import load
from gentheory.data.recipe import Recipe
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.risk import EmpiricalRisk
from gentheory.seeds import generator, seed_of
from gentheory.study import plan
from gentheory.study import rivals as module
from gentheory.study.job import Job
from gentheory.study.plan import Point
from gentheory.study.spec import parse
from gentheory.study.store import Store

N = 62
FIVE = ["validation:0.1", "validation:0.2", "cross_validation:5"]


def raw(**sections: Any) -> dict[str, Any]:
    grid = {"learning_rate": [0.05, 0.2], "seed": [0, 1]}
    return tiny.study(
        **{
            "training": tiny.training(n_train=N, label_noise=0.1, momentum=0.5, weight_decay=1e-3),
            "grid": grid,
            "rivals": {"validation": [0.1, 0.2], "folds": 5},
            "measures": {
                "names": ["norms.distance", "tic.exact:strong"],
                "held_out": 40,
                "on_held_out": ["tic.exact", "tic.exact:strong"],
                "options": {"tic.exact:strong": {"damping": 0.1}},
            },
            **sections,
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny.done(tmp_path_factory.mktemp("rivals") / "tiny", raw())


def point(store: Store, place: int) -> Point:
    return plan.points(store.study)[place]


def by_hand(point: Point, seen: torch.Tensor, unseen: torch.Tensor) -> torch.Tensor:
    """Losses of the unseen examples after torch's own optimizer has trained on the others."""
    data, settings = Recipe(**point.data).train(), point.settings
    net = models.build(
        point.model["name"],
        shape=tuple(point.model["shape"]),
        num_classes=10,
        options=point.model["options"],
        seed=seed_of(0, "init", settings["seed"]),
    )
    names = {"lr": "learning_rate", "momentum": "momentum", "weight_decay": "weight_decay"}
    rates = {name: settings[long] for name, long in names.items()}
    optimizer = torch.optim.SGD(net.parameters(), **rates)
    own, order = data.take(seen), generator(0, "order", settings["seed"])
    for _ in range(settings["epochs"]):
        for index in torch.randperm(len(own), generator=order).split(settings["batch_size"]):
            optimizer.zero_grad()
            F.cross_entropy(net(own.inputs[index]), own.targets[index]).backward()
            optimizer.step()
    held = data.take(unseen)
    with torch.no_grad():
        return F.cross_entropy(net(held.inputs).double(), held.targets, reduction="none")


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("validation:0.1", [0, 6]),
        ("validation:0.2", [0, 12]),
        ("cross_validation:5", [0, 12, 25, 37, 50, 62]),
    ],
)
def test_a_rival_is_what_a_plain_loop_gives(store: Store, name: str, bounds: list[int]) -> None:
    rows = store.table("measures").set_index(["model", "measure"])
    shuffled = torch.randperm(N, generator=generator(0, "held out", N))
    for place in (0, 3):
        losses = []
        for start, stop in itertools.pairwise(bounds):
            inside = torch.zeros(N, dtype=torch.bool)
            inside[shuffled[start:stop]] = True
            seen, unseen = (~inside).nonzero()[:, 0], inside.nonzero()[:, 0]
            losses.append(by_hand(point(store, place), seen, unseen))
        expected, row = torch.cat(losses), rows.loc[(point(store, place).id, name)]
        assert row["status"] == "ok"
        assert row["value"] == pytest.approx(expected.mean().item(), rel=1e-4)
        error = expected.std().item() / len(expected) ** 0.5
        assert row["stderr"] == pytest.approx(error, rel=1e-4)


def test_every_model_has_every_rival_and_what_it_cost(store: Store) -> None:
    rows, costs = store.table("measures"), store.table("costs")
    for model in store.table("models")["model"]:
        assert rows[rows["model"] == model]["measure"].tolist() == [
            *FIVE,
            "norms.distance",
            "tic.exact:strong",
            "tic.exact:held-out",
            "tic.exact:strong:held-out",
        ]
        own = costs[costs["model"] == model].set_index("what")["seconds"]
        assert (own[["training", *FIVE]] > 0).all()
        assert own["cross_validation:5"] > 2 * own["validation:0.2"]


def test_nothing_is_trained_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, int]] = []
    original = Job.train

    def counted(job: Job, **rest: Any) -> Any:
        trained.append((len(job.initial), rest["rows"].shape[1]))
        return original(job, **rest)

    monkeypatch.setattr(Job, "train", counted)
    (shard, _) = plan.shards(parse(raw(training=tiny.training(n_train=60)), place="it"))
    found = module.train_rivals(Job.of(shard.points), shard.rivals, seed=0)
    assert trained == [(2, 54), (10, 48)]  # all folds at once, the 20 % split among them
    assert [rival.name for rival in found] == FIVE


def test_the_split_is_the_same_for_every_model(store: Store) -> None:
    """Two models with the same settings but for the architecture's label have equal rivals."""
    twins = [tiny.net(), tiny.net(label="twin")]
    both = parse(raw(architectures=twins), place="it")
    one, _, other, _ = plan.shards(both)
    assert {p.architecture for p in other.points} == {"twin"}
    first, second = (
        module.train_rivals(Job.of(shard.points), shard.rivals, seed=0) for shard in (one, other)
    )
    values = [[e.value for rival in found for e in rival.estimates] for found in (first, second)]
    assert values[0] == values[1]


def test_a_rival_that_diverges_is_a_row_with_its_reason(tmp_path: Path) -> None:
    grid = {"learning_rate": [0.05, 1e4], "seed": [0]}
    store = tiny.done(tmp_path / "out", raw(grid=grid))
    models, rows = store.table("models"), store.table("measures")
    assert models["outcome"].tolist() == ["finished", "diverged"]
    tame, wild = (
        rows[rows["model"] == model].set_index("measure").loc[FIVE] for model in models["model"]
    )
    assert set(tame["status"]) == {"ok"}
    assert set(wild["status"]) == {"failed"}
    one, all_five = "the training on the rest diverged", "5 of 5 trainings diverged"
    assert wild["reason"].tolist() == [one, one, all_five]
    assert wild["value"].isna().all()
    assert store.table("costs").notna().all().all()


def test_a_run_that_is_cut_short_ends_with_the_same_bytes(tmp_path: Path, store: Store) -> None:
    again = tiny.done(tmp_path / "out", raw())
    tiny.assert_same(again, store)
    first = next(iter(again.sizes))
    (again.path / "shards" / first / "measures.parquet").unlink()
    tiny.assert_same(tiny.done(again.path, raw()), store)


def test_rivals_leave_the_models_alone(tmp_path: Path, store: Store) -> None:
    without = raw()
    del without["rivals"]
    plain = tiny.done(tmp_path / "out", without)
    for name in ("models", "curves"):
        one, other = (
            each.table(name).drop(columns="shard", errors="ignore") for each in (plain, store)
        )
        assert one.equals(other)


@pytest.mark.parametrize(
    "sections",
    [
        {"rivals": {"validation": [0.1], "folds": 5}},
        {"rivals": {"validation": [0.1, 0.2], "folds": 4}},
        {"rivals": {"validation": [0.1, 0.2]}},
        {"measures": {**raw()["measures"], "held_out": 41}},
        {"measures": {**raw()["measures"], "on_held_out": ["tic.exact"]}},
    ],
)
def test_rivals_and_held_out_measures_make_another_shard(sections: dict[str, Any]) -> None:
    one, other = (plan.shards(parse(r, place="it")) for r in (raw(), raw(**sections)))
    assert not {s.id for s in one} & {s.id for s in other}
    assert [s.points for s in one] == [s.points for s in other]
    assert all(plan.Shard.from_dict(json.loads(json.dumps(s.to_dict()))) == s for s in other)


def test_what_the_report_is_about_makes_no_other_shard(tmp_path: Path, store: Store) -> None:
    chosen = raw(report={"main": "tic.exact:held-out"})
    one, other = (plan.shards(parse(r, place="it")) for r in (raw(), chosen))
    assert one == other
    path = tmp_path / "out"
    begun = Store.create(path, parse(raw(), place="it"))
    changed = Store.create(path, parse(chosen, place="it"))
    assert changed.sizes == begun.sizes
    assert Store.open(path).study.report.main == "tic.exact:held-out"


def test_held_out_data_are_neither_training_nor_test_data() -> None:
    small = Recipe("digits", n_train=100, seed=3)
    large = Recipe("digits", n_train=900, label_noise=0.2, seed=3)
    everything = load("digits")[0]
    for recipe in (small, large):
        trained, held = set(recipe.indices().tolist()), recipe.held_out_indices(300).tolist()
        assert len(set(held)) == 300
        assert not trained & set(held)
        assert torch.equal(recipe.held_out(300).inputs, everything.inputs[held])
    # All settings of a study are measured on the same images.
    assert torch.equal(small.held_out_indices(300), large.held_out_indices(300))
    clean, noisy = small.held_out(300).targets, large.held_out(300).targets
    assert int((clean != noisy).sum()) == 60


@pytest.mark.parametrize("count", [301, 0])
def test_more_held_out_data_than_there_are(count: int) -> None:
    recipe = Recipe("digits", n_train=900)
    message = rf"held_out: found {count} examples beside the 900 trained on, expected 1 to 300"
    with pytest.raises(InputError, match=message):
        recipe.held_out(count)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"measures": {**raw()["measures"], "held_out": 1139}}, r"1139 examples beside the 62"),
        ({"rivals": {"validation": [0.001]}}, r"rivals, validation:0\.001: found 62 training"),
        ({"rivals": {"validation": [0.999]}}, r"rivals, validation:0\.999: found 62 training"),
        ({"rivals": {"folds": 63}}, r"rivals, cross_validation:63: found 62 training examples"),
    ],
)
def test_too_few_examples_are_told_before_the_first_training(
    sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        Store.create(tmp_path / "out", parse(raw(**sections), place="it"))
    assert not (tmp_path / "out").exists()


def test_a_held_out_measure_is_that_measure_on_that_data(store: Store) -> None:
    rows = store.table("measures").set_index(["model", "measure"])
    shard, chosen = next(iter(store.sizes)), point(store, 1)
    file = store.path / "shards" / shard / "weights.safetensors"
    data: Split = Recipe(**chosen.data).held_out(40)
    moved = checkpoint.load(file, 1, data=data, dtype=torch.float64)
    for variant, damping in (("tic.exact", 1e-3), ("tic.exact:strong", 0.1)):
        expected = measures.measure(
            moved, ["tic.exact"], options={"tic.exact": {"damping": damping}}
        )
        stats = json.loads(rows.loc[(chosen.id, f"{variant}:held-out"), "stats"])
        raw_trace = expected["tic.exact"].stats["raw_trace"]
        np.testing.assert_allclose(stats["raw_trace"], raw_trace, rtol=1e-10)


def test_a_checkpoint_on_other_data_knows_how_many_it_was_trained_on() -> None:
    net = models.build("mlp", shape=(1, 8, 8), num_classes=10, options={}, seed=0)
    risk = EmpiricalRisk(net, "cross_entropy", Recipe("digits", n_train=40).train())
    assert checkpoint.Checkpoint(risk).num_training_examples == 40
    assert checkpoint.Checkpoint(risk, num_train=900).num_training_examples == 900
