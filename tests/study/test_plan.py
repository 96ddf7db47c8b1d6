import hashlib
import itertools
import json
import os
import subprocess
import sys
from typing import Any

import pytest
import tiny

from gentheory.data.recipe import Recipe
from gentheory.errors import InputError
from gentheory.study import plan
from gentheory.study.spec import Study, parse


def study(**sections: Any) -> Study:
    return parse(tiny.study(**sections), place="it")


def ids(**sections: Any) -> set[str]:
    return {point.id for point in plan.points(study(**sections))}


def test_digest_is_that_of_the_canonical_json() -> None:
    text = '{"a":[1.5,null],"b":{"c":"x","d":true}}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert plan.digest({"b": {"d": True, "c": "x"}, "a": [1.5, None]}) == expected


def test_ids_are_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "import json, sys\n"
        "from gentheory.study import plan, spec\n"
        "raw = json.loads(sys.argv[1])\n"
        "shards = plan.shards(spec.parse(raw, place='it'))\n"
        "print(json.dumps([[s.id, [p.id for p in s.points]] for s in shards]))"
    )
    raw = tiny.study(draws={"count": 2, "momentum": {"low": 0.0, "high": 0.9}})
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(raw)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
    )
    here = plan.shards(parse(raw, place="it"))
    assert json.loads(done.stdout) == [[s.id, [p.id for p in s.points]] for s in here]


def test_ids_do_not_depend_on_the_order_of_keys() -> None:
    raw = tiny.study()
    turned = {key: raw[key] for key in reversed(raw)}
    for section in ("grid", "training"):
        turned[section] = dict(reversed(turned[section].items()))
    turned["architectures"] = [tiny.net(options={"width": 3, "depth": 2})]
    one, other = (plan.shards(parse(text, place="it")) for text in (raw, turned))
    assert [shard.id for shard in one] == [shard.id for shard in other]


def test_a_model_keeps_its_id_whatever_stands_around_it() -> None:
    turned = ids(grid={"seed": [1, 0], "learning_rate": [0.1, 0.01]}, stack=3)
    more = ids(grid={"seed": [0, 1, 2], "learning_rate": [0.01, 0.1, 0.3]})
    assert turned == ids()
    assert ids() < more


@pytest.mark.parametrize(
    "sections",
    [
        {"seed": 1},
        {"training": tiny.training(epochs=3)},
        {"training": tiny.training(n_train=61)},
        {"training": tiny.training(label_noise=0.1)},
        {"training": tiny.training(schedule="cosine")},
        {"architectures": [tiny.net(options={"depth": 2, "width": 4})]},
        {"data": {"name": "digits", "options": {"num_test": 500}}},
    ],
)
def test_another_setting_is_another_model(sections: dict[str, Any]) -> None:
    assert not ids() & ids(**sections)


def test_measures_and_threads_make_another_shard_of_the_same_models() -> None:
    other = study(measures={"names": ["norms.distance"]})
    threads = study(threads=2)
    assert [p.id for p in plan.points(other)] == [p.id for p in plan.points(study())]
    shards = [{s.id for s in plan.shards(each)} for each in (study(), other, threads)]
    assert not any(a & b for a, b in itertools.combinations(shards, 2))


def test_a_shard_survives_the_way_to_another_process() -> None:
    for shard in plan.shards(study()):
        again = plan.Shard.from_dict(json.loads(json.dumps(shard.to_dict())))
        assert again == shard
        assert again.id == shard.id


def test_every_model_is_in_one_shard_and_stacks_share_what_they_must() -> None:
    wide = tiny.net(label="wide", options={"depth": 2, "width": 5})
    planned = study(
        stack=5,
        architectures=[tiny.net(), wide],
        grid={
            "epochs": [2, 1],
            "batch_size": [16, 32],
            "n_train": [30, 60],
            "label_noise": [0.0, 0.2],
            "learning_rate": [0.1, 0.2, 0.3],
            "seed": [0, 1],
        },
    )
    shards = plan.shards(planned)
    points = [point for shard in shards for point in shard.points]
    assert len(points) == 2 * 2 * 2 * 2 * 2 * 6
    assert len({point.id for point in points}) == len(points)
    assert [len(shard.points) for shard in shards] == [5, 1] * 32
    for shard in shards:
        for name in ("epochs", "batch_size", "n_train", "label_noise"):
            assert len({point.settings[name] for point in shard.points}) == 1
        assert len({point.architecture for point in shard.points}) == 1
        assert len({plan.digest(point.data) for point in shard.points}) == 1


def test_what_is_excluded_is_not_planned_and_leaves_the_others_as_they_were() -> None:
    wide = tiny.net(label="wide", options={"depth": 2, "width": 5})
    sections = {
        "architectures": [tiny.net(), wide],
        "grid": {"n_train": [30, 60], "label_noise": [0.0, 0.2], "seed": [0, 1]},
    }
    exclude = [{"architecture": "wide", "n_train": 30}, {"label_noise": 0.2, "seed": 1}]
    kept = plan.points(study(**sections, exclude=exclude))
    assert {point.id for point in kept} < ids(**sections)
    axes = ("n_train", "label_noise", "seed")
    found = {(p.architecture, *(p.settings[axis] for axis in axes)) for p in kept}
    assert found == {
        (label, n, noise, seed)
        for label, n, noise, seed in itertools.product(
            ("net", "wide"), (30, 60), (0.0, 0.2), (0, 1)
        )
        if not (label == "wide" and n == 30) and not (noise == 0.2 and seed == 1)
    }
    assert len(kept) == 9


def test_every_draw_of_an_excluded_grid_point_is_left_out() -> None:
    sections = {"grid": {"batch_size": [16, 32]}, "draws": _draws(3, momentum=(0.0, 0.9))}
    kept = plan.points(study(**sections, exclude=[{"batch_size": 16}]))
    assert [point.settings["batch_size"] for point in kept] == [32] * 3
    assert {point.id for point in kept} < ids(**sections)


def _draws(count: int, **ranges: tuple[float, float]) -> dict[str, Any]:
    return {"count": count, **{n: {"low": a, "high": b} for n, (a, b) in ranges.items()}}


def test_more_draws_keep_the_first_ones() -> None:
    few, many = (
        plan.points(study(grid={}, draws=_draws(count, momentum=(0.0, 0.9)))) for count in (3, 40)
    )
    assert [p.id for p in few] == [p.id for p in many[:3]]
    assert len({p.settings["momentum"] for p in many}) == 40
    assert all(0 <= p.settings["momentum"] <= 0.9 for p in many)


def test_another_axis_keeps_the_draws_of_the_first() -> None:
    one = plan.points(study(grid={}, draws=_draws(4, momentum=(0.0, 0.9))))
    two = plan.points(study(grid={}, draws=_draws(4, momentum=(0.0, 0.9), weight_decay=(0.0, 0.1))))
    assert [p.settings["momentum"] for p in one] == [p.settings["momentum"] for p in two]
    ratios = {p.settings["weight_decay"] / p.settings["momentum"] for p in two}
    assert len(ratios) == 4  # each axis has its own stream


def test_each_architecture_and_grid_point_gets_the_same_draws() -> None:
    both = [tiny.net(), tiny.net(label="other", options={"depth": 2, "width": 4})]
    points = plan.points(
        study(architectures=both, grid={"batch_size": [16, 32]}, draws=_draws(3, momentum=(0, 0.9)))
    )
    drawn = {
        key: [p.settings["momentum"] for p in group]
        for key, group in itertools.groupby(
            points, key=lambda p: (p.architecture, p.settings["batch_size"])
        )
    }
    assert len(drawn) == 4
    assert len({tuple(values) for values in drawn.values()}) == 1


def test_draws_are_uniform_in_the_scale_that_is_asked_for() -> None:
    draws = {"count": 400, "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"}}
    rates = [p.settings["learning_rate"] for p in plan.points(study(grid={}, draws=draws))]
    below = sum(rate < 1e-2 for rate in rates)
    assert 160 <= below <= 240  # half of them, ± 4 standard deviations


def test_a_draw_has_its_own_seed_unless_the_grid_sets_it() -> None:
    draws = _draws(3, momentum=(0.0, 0.9))
    assert [p.settings["seed"] for p in plan.points(study(grid={}, draws=draws))] == [0, 1, 2]
    paired = plan.points(study(grid={"seed": [7]}, draws=draws))
    assert [p.settings["seed"] for p in paired] == [7, 7, 7]


def test_all_models_train_on_the_same_examples_and_fewer_are_the_first_of_more() -> None:
    points = plan.points(study(grid={"n_train": [30, 60], "seed": [0, 1], "momentum": [0.0, 0.9]}))
    chosen = {
        n: {tuple(Recipe(**p.data).indices().tolist()) for p in points if p.data["n_train"] == n}
        for n in (30, 60)
    }
    (small,), (large,) = chosen[30], chosen[60]
    assert small == large[:30]
    assert len(set(large)) == 60
    other = plan.points(study(seed=1))[0]
    assert set(Recipe(**other.data).indices().tolist()) != set(large)


def test_label_noise_spares_the_examples_and_is_the_same_for_all() -> None:
    clean, noisy = (Recipe("digits", {}, 60, noise) for noise in (0.0, 0.5))
    wrong = clean.train().targets != noisy.train().targets
    assert (clean.train().inputs == noisy.train().inputs).all()
    assert int(wrong.sum()) == 30
    assert (noisy.train().targets == Recipe("digits", {}, 60, 0.5).train().targets).all()


def test_test_labels_have_the_training_data_s_noise_and_a_stream_of_their_own() -> None:
    recipe = Recipe("digits", {}, 60, 0.25)
    test, clean = recipe.test(), recipe.clean_test()
    wrong = test.targets != clean.targets
    assert (test.inputs == clean.inputs).all()
    assert int(wrong.sum()) == round(0.25 * len(clean))
    assert (recipe.test().targets == test.targets).all()
    assert (Recipe("digits", {}, 300, 0.25).test().targets == test.targets).all()
    assert (Recipe("digits", {}, 60, 0.25, 1).test().targets != test.targets).any()
    plain = Recipe("digits", {}, len(clean)).train()
    in_training = Recipe("digits", {}, len(clean), 0.25).train().targets != plain.targets
    assert int(in_training.sum()) == int(wrong.sum())
    assert (in_training != wrong).any()  # not the same places


def test_without_label_noise_the_test_labels_are_untouched() -> None:
    recipe = Recipe("digits", {}, 60)
    assert (recipe.test().targets == recipe.clean_test().targets).all()


@pytest.mark.parametrize("n_train", [0, 1201])
def test_a_recipe_for_more_examples_than_there_are(n_train: int) -> None:
    message = rf"data\.n_train: found {n_train}, expected 1 to 1200 for digits; choose"
    with pytest.raises(InputError, match=message):
        Recipe("digits", {}, n_train).indices()


def test_models_of_one_stack_share_all_but_their_own_settings() -> None:
    grid = {"loss": ["cross_entropy", "mse"], "learning_rate": [0.1, 0.2], "seed": [0, 1]}
    for shard in plan.shards(study(grid=grid, stack=8)):
        assert len(shard.points) == 4
        assert len({point.settings["loss"] for point in shard.points}) == 1
        assert {point.family for point in shard.points} == {"net"}


def test_parts_are_planned_one_after_the_other_with_data_of_their_own() -> None:
    wider = tiny.net(label="wider", options={"depth": 2, "width": 5})
    sizes = {"num_train": 90, "num_test": 30, "num_features": 4, "num_classes": 3}
    other = {"name": "gaussian_classes", "options": {**sizes, "separation": 2.0, "seed": 0}}
    parts = [{}, {"data": other, "stack": 4}]
    both = study(parts=[parts[0], {**parts[1], "architectures": [wider]}])
    planned = plan.shards(both)
    assert [len(shard.points) for shard in planned] == [2, 2, 4]
    assert [shard.points[0].part for shard in planned] == [0, 0, 1]
    alone = study(**parts[1], architectures=[wider])
    assert [p.settings for p in plan.points(both, 1)] == [p.settings for p in plan.points(alone)]
    assert plan.points(both, 1)[0].model["num_params"] == plan.points(alone)[0].model["num_params"]
