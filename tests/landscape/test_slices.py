"""Lines, planes and barriers against a plain loop over their points, one module at a time."""

import copy
from pathlib import Path

import pandas as pd
import pytest
import torch
from cases import CASES, Case, regression
from scipy import stats
from torch import Tensor, nn

import gentheory as gt
from gentheory.errors import InputError
from gentheory.landscape import batch_norm, directions, slices
from gentheory.params import load_flat
from gentheory.seeds import generator

KINDS = ["mlp", "conv", "batch norm", "tied modules", "frozen", "attention", "embedding"]


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def drawn(risk: gt.EmpiricalRisk, count: int = 2) -> Tensor:
    return 0.3 * directions.random(risk, count, generator=generator(0))


def column(table: pd.DataFrame, name: str) -> Tensor:
    return torch.tensor(table[name].to_numpy(dtype=float))


def by_loop(case: Case, point: Tensor, *, training: bool = False) -> tuple[Tensor, Tensor]:
    """Each example's loss, and whether its largest output is right."""
    module = copy.deepcopy(case.module).train(training)
    load_flat(module, point)
    inputs, targets = case.data
    with torch.no_grad():
        outputs = module(inputs)
    return case.values(outputs, targets), (outputs.argmax(1) == targets).double()


def test_a_line_is_the_loop_over_its_points(case: Case):
    risk = case.risk()
    ways = drawn(risk)
    table = slices.line(risk, ways, distances=[-1.0, 0.0, 0.5])
    assert list(table) == ["direction", "distance", "loss", "stderr", "accuracy"]
    assert table["direction"].tolist() == [0, 0, 0, 1, 1, 1]
    assert table["distance"].tolist() == [-1.0, 0.0, 0.5] * 2
    for row in table.itertuples():
        losses, hits = by_loop(case, risk.theta + row.distance * ways[row.direction])
        assert row.loss == pytest.approx(losses.mean().item(), rel=1e-12)
        assert row.stderr == pytest.approx(losses.std().item() / len(losses) ** 0.5, rel=1e-9)
        if case.targets == "classes":
            assert row.accuracy == pytest.approx(hits.mean().item())


def test_a_plane_is_the_loop_over_its_points(case: Case):
    risk = case.risk()
    one, other = ways = drawn(risk)
    table = slices.plane(risk, ways, first=[-1.0, 0.5], second=[0.0, 0.25, 1.0])
    assert list(table) == ["first", "second", "loss", "stderr", "accuracy"]
    assert table["first"].tolist() == [-1.0] * 3 + [0.5] * 3
    for row in table.itertuples():
        losses, _ = by_loop(case, risk.theta + row.first * one + row.second * other)
        assert row.loss == pytest.approx(losses.mean().item(), rel=1e-12)
        assert row.stderr == pytest.approx(losses.std().item() / len(losses) ** 0.5, rel=1e-9)


def test_any_points_are_those_of_the_plane_through_them():
    risk = CASES["mlp"].risk()
    ways = drawn(risk, 3)
    some = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    table = slices.points(risk, ways, some)
    assert list(table) == ["point", "loss", "stderr", "accuracy"]
    plane = slices.plane(risk, ways[[0, 2]], first=[0.0, 1.0], second=[0.0, 0.5])
    pd.testing.assert_frame_equal(
        table.drop(columns="point"),
        plane.loc[[3, 0], ["loss", "stderr", "accuracy"]].reset_index(drop=True),
        rtol=1e-12,
    )


def test_rows_of_each_class_are_the_loop_over_its_examples():
    case = CASES["mlp"]
    risk, (_, targets) = case.risk(), case.data
    ways = drawn(risk)
    table = slices.line(risk, ways, distances=[0.0, 1.0], by_class=True)
    assert list(table) == ["direction", "distance", "class", "loss", "stderr", "accuracy"]
    whole = table[table["class"].isna()].drop(columns="class").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, slices.line(risk, ways, distances=[0.0, 1.0]))
    assert len(table) == 4 * (1 + len(targets.unique()))
    for row in table[table["class"].notna()].rename(columns={"class": "label"}).itertuples():
        losses, hits = by_loop(case, risk.theta + row.distance * ways[row.direction])
        own = losses[targets == row.label]
        assert row.loss == pytest.approx(own.mean().item(), rel=1e-12)
        assert row.accuracy == pytest.approx(hits[targets == row.label].mean().item())
        if len(own) > 1:
            assert row.stderr == pytest.approx(own.std().item() / len(own) ** 0.5, rel=1e-9)


def test_chunks_of_points_and_of_examples_change_nothing(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["conv"].risk()
    options = {"first": [-1.0, 0.0, 0.5], "second": [-1.0, 0.0, 0.5], "by_class": True}
    whole = slices.plane(risk, drawn(risk), **options)
    monkeypatch.setattr(slices, "_NUMBERS", 4 * risk.num_params)
    calls: list[tuple[int, int]] = []
    other = slices.plane(
        CASES["conv"].risk(batch_size=2),
        drawn(risk),
        **options,
        progress=lambda done, of: calls.append((done, of)),
    )
    pd.testing.assert_frame_equal(whole, other, rtol=1e-10)
    assert calls == [(4, 9), (8, 9), (9, 9)]


def test_a_line_of_a_quadratic_is_one():
    risk = regression()
    way = drawn(risk, 1)
    table = slices.line(risk, way, distances=[-2.0, -1.0, 0.0, 1.0, 2.0])
    losses = column(table, "loss")
    scale = losses.abs().max()
    assert losses.diff(n=3).abs().max() < 1e-13 * scale
    slope = (risk.gradient() @ way[0]).item()
    assert (losses[3] - losses[1]).item() / 2 == pytest.approx(slope, rel=1e-10)
    assert table["accuracy"].isna().all()


def test_trap_36_points_do_not_drift_and_nothing_is_moved():
    risk = CASES["mlp"].risk()
    before = risk.theta.clone()
    table = slices.line(risk, drawn(risk, 1), distances=[0.0, 1e6, -1e6, 0.0])
    assert table["loss"][0] == table["loss"][3] == risk.example_losses().mean().item()
    assert torch.equal(risk.theta, before)


def test_trap_36_statistics_are_kept_or_taken_anew_from_all_examples():
    case = CASES["batch norm"]
    risk = case.risk()
    before = {name: b.clone() for name, b in risk.module.named_buffers()}
    (way,) = ways = drawn(risk, 1)
    for policy, training in (("keep", False), ("reestimate", True)):
        for batch_size in (2, 100):
            other = case.risk(batch_size=batch_size)
            table = slices.line(other, ways, distances=[-1.0, 0.7], batch_norm=policy)
            for row in table.itertuples():
                point = risk.theta + row.distance * way
                losses, hits = by_loop(case, point, training=training)
                assert row.loss == pytest.approx(losses.mean().item(), rel=1e-12)
                assert row.accuracy == pytest.approx(hits.mean().item())
    assert all(torch.equal(before[name], b) for name, b in risk.module.named_buffers())
    assert not any(part.training for part in risk.module.modules())


def test_without_batch_norm_both_policies_are_the_same():
    risk = CASES["mlp"].risk()
    one, other = (
        slices.line(risk, drawn(risk), batch_norm=policy) for policy in ("keep", "reestimate")
    )
    pd.testing.assert_frame_equal(one, other)


def test_trap_39_examples_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch):
    risk = CASES["batch norm"].risk()
    monkeypatch.setattr(batch_norm, "MAX_MEMORY", 1000)
    with pytest.raises(InputError, match=r"at once, expected at most .* use batch_norm=\"keep\""):
        slices.line(risk, drawn(risk), batch_norm="reestimate")
    assert len(slices.line(risk, drawn(risk), distances=[0.0])) == 2


def killed(done: int, of: int) -> None:
    if done >= of // 2:
        raise KeyboardInterrupt


def resumed(tmp_path: Path, risk: gt.EmpiricalRisk) -> tuple[pd.DataFrame, list[int]]:
    calls: list[int] = []
    table = slices.plane(
        risk, drawn(risk), keep=tmp_path / "plane", progress=lambda done, of: calls.append(done)
    )
    return table, calls


def test_a_killed_plane_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    risk = CASES["mlp"].risk()
    whole = slices.plane(risk, drawn(risk))
    monkeypatch.setattr(slices, "_NUMBERS", 50 * risk.num_params)
    with pytest.raises(KeyboardInterrupt):
        slices.plane(risk, drawn(risk), keep=tmp_path / "plane", progress=killed)
    (tmp_path / "plane.0.tmp").write_bytes(b"what was being written")
    table, calls = resumed(tmp_path, CASES["mlp"].risk(batch_size=5))
    assert calls == [400, 450, 500, 550, 600, 625]
    pd.testing.assert_frame_equal(table, whole, rtol=1e-10)
    pd.testing.assert_frame_equal(resumed(tmp_path, risk)[0], table)


def test_what_was_kept_of_something_else_is_refused(tmp_path: Path):
    risk, path = CASES["mlp"].risk(), tmp_path / "line"
    ways = drawn(risk)
    slices.line(risk, ways, keep=path)
    x, y = risk.joined()
    shifted = CASES["mlp"].module
    others = [
        lambda: slices.line(risk.at(risk.theta + 1e-9), ways, keep=path),
        lambda: slices.line(risk.on(x + 1e-9, y), ways, keep=path),
        lambda: slices.line(risk.on(x, y.flip(0)), ways, keep=path),
        lambda: slices.line(risk, 2 * ways, keep=path),
        lambda: slices.line(risk, ways, keep=path, distances=[0.0]),
        lambda: slices.line(risk, ways, keep=path, by_class=True),
        lambda: slices.line(risk, ways, keep=path, batch_norm="reestimate"),
        lambda: slices.line(gt.EmpiricalRisk(shifted, "mse", (x, y)), ways, keep=path),
    ]
    for other in others:
        with pytest.raises(InputError, match="found rows of other parameters, data or points"):
            other()
    assert len(slices.line(risk, ways, keep=path)) == 42


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_file_is_refused(tmp_path: Path, damage):
    risk, path = CASES["mlp"].risk(), tmp_path / "line"
    slices.line(risk, drawn(risk), keep=path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"found a damaged or foreign file, .* delete it"):
        slices.line(risk, drawn(risk), keep=path)


def test_a_missing_folder_is_told_before_the_work(tmp_path: Path):
    risk = CASES["mlp"].risk()
    with pytest.raises(InputError, match=r"found no such folder, .* make it first"):
        slices.line(risk, drawn(risk), keep=tmp_path / "nowhere" / "line")


def test_buffers_and_frozen_parameters_tell_one_plane_from_another(tmp_path: Path):
    for name in ("batch norm", "frozen"):
        case, path = CASES[name], tmp_path / name
        risk = case.risk()
        slices.line(risk, drawn(risk), keep=path)
        other = case.risk()
        still = [p for p in other.module.parameters() if not p.requires_grad]
        with torch.no_grad():
            next(iter([*still, *other.module.buffers()])).add_(1)
        with pytest.raises(InputError, match="found rows of other parameters"):
            slices.line(other, drawn(risk), keep=path)


def upside_down(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs - targets).square().sum(1)


def test_a_convex_loss_has_no_barrier_and_a_concave_one_that_of_its_curvature():
    risk = regression()
    other = risk.theta + drawn(risk, 1)[0]
    found = slices.barrier(risk, other)
    assert (found.height, found.position) == (0.0, 0.0)
    d = other - risk.theta
    bend = (d @ gt.hessian(risk)(d)).item()
    t = column(found.table, "distance")
    torch.testing.assert_close(column(found.table, "excess"), -t * (1 - t) * bend / 2)
    x, y = risk.joined()
    concave = gt.EmpiricalRisk(risk.module, upside_down, (x, y), theta=risk.theta)
    found = slices.barrier(concave, other)
    bend = (d @ gt.hessian(concave)(d)).item()
    assert found.position == 0.5
    assert found.height == pytest.approx(-bend / 8, rel=1e-10)


def test_a_permuted_net_is_the_same_at_both_ends_with_a_barrier_between():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        net[2].weight *= 8
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, net(x).argmax(1)))
    parts = dict(risk.layout.unflatten(risk.theta))
    for name, axis in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        parts[name] = parts[name].roll(1, axis)
    found = slices.barrier(risk, risk.layout.flatten(parts), num_points=11)
    losses = column(found.table, "loss")
    assert losses[0].item() == pytest.approx(losses[-1].item(), rel=1e-12)
    assert found.height == pytest.approx((losses.max() - losses[0]).item(), rel=1e-10)
    assert found.height > 10 * found.stderr > 0


class Dot(nn.Module):
    """w·x, so that squares of the outputs have the mean |w|² over normal inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w.T


def normal_scores(scores: list[float]) -> None:
    assert stats.kstest(scores, "norm").pvalue > 0.01
    assert abs(sum(scores)) < 3 * len(scores) ** 0.5


def test_error_bars_of_points_and_barriers_cover_the_draw_of_the_examples():
    way = torch.tensor([[0.5, 1.0, 1.0]], dtype=torch.float64)
    points, heights = [], []
    for seed in range(200):
        x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(seed)).double()
        risk = gt.EmpiricalRisk(Dot(), upside_down, (x, torch.zeros(1000, 1).double()))
        row = slices.line(risk, way, distances=[2.0]).iloc[0]
        expected = (risk.theta + 2 * way[0]).square().sum().item()
        points.append((row["loss"] + expected) / row["stderr"])
        found = slices.barrier(risk, risk.theta + way[0], num_points=3)
        heights.append((found.height - way.square().sum().item() / 4) / found.stderr)
    normal_scores(points)
    normal_scores(heights)


def test_a_path_is_seen_in_the_coordinates_of_the_plane():
    risk = CASES["mlp"].risk()
    pair = drawn(risk)
    wanted = torch.tensor([[2.0, 1.0], [1.0, -1.0], [0.0, 0.0]], dtype=risk.dtype)
    path = risk.theta + wanted @ pair
    table = slices.projected(path, pair, centre=risk.theta, steps=[0, 10, 40])
    assert list(table) == ["step", "first", "second"]
    assert table["step"].tolist() == [0, 10, 40]
    torch.testing.assert_close(torch.tensor(table[["first", "second"]].to_numpy()), wanted)
    assert slices.projected(path, pair, centre=risk.theta)["step"].tolist() == [0, 1, 2]
    plane = slices.plane(risk, pair, first=[2.0], second=[1.0])
    assert plane["loss"][0] == pytest.approx(by_loop(CASES["mlp"], path[0])[0].mean().item())


def test_one_example_has_no_error_bar():
    net = CASES["mlp"].module
    x, y = (part[:1] for part in CASES["mlp"].data)
    risk = gt.EmpiricalRisk(net, "cross_entropy", (x, y))
    assert slices.line(risk, drawn(risk))["stderr"].isna().all()


def test_what_makes_no_slice_is_refused():
    risk = CASES["mlp"].risk()
    ways = drawn(risk)
    with pytest.raises(InputError, match="distances: found none, expected at least one"):
        slices.line(risk, ways, distances=[])
    with pytest.raises(InputError, match="second: found numbers that are nan or infinite"):
        slices.plane(risk, ways, second=[0.0, float("inf")])
    with pytest.raises(InputError, match="directions: found none"):
        slices.line(risk, ways[:0])
    with pytest.raises(InputError, match="found 1 directions, expected 2"):
        slices.plane(risk, ways[:1])
    with pytest.raises(InputError, match="found 3 coordinates for 2 directions"):
        slices.points(risk, ways, torch.zeros(1, 3))
    with pytest.raises(InputError, match="found 'train', expected 'keep' or 'reestimate'"):
        slices.line(risk, ways, batch_norm="train")
    with pytest.raises(InputError, match=r"num_points: found 2, expected at least 3"):
        slices.barrier(risk, risk.theta, num_points=2)
    with pytest.raises(InputError, match="theta: found 3 numbers"):
        slices.barrier(risk, torch.zeros(3))
    with pytest.raises(InputError, match=r"steps: found 2, expected 1"):
        slices.projected(risk.theta[None], ways, centre=risk.theta, steps=[1, 2])
    with pytest.raises(InputError, match=r"by_class: found targets torch\.float64"):
        slices.line(regression(), drawn(regression()), by_class=True)
