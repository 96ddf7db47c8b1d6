"""Augmented batches: what happens to each image, each model by its own draws."""

from dataclasses import replace

import pytest
import torch
from cases import CASES
from oracle import relative_error
from scipy.stats import chisquare, kstest
from torch import Tensor, nn

from gentheory import losses
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.params import flatten
from gentheory.seeds import generator
from gentheory.training.augment import Augmentation, cropped, flipped, mixed
from gentheory.training.loop import Plan, Trained, train

CE, MSE = losses.cross_entropy, losses.mse
M, B = 3, 8
ALL = Augmentation(mixup=0.4, flips=True, crops=1)


def streams(count: int = M, *, seed: int = 0) -> list[torch.Generator]:
    return [generator("augment", seed, m) for m in range(count)]


def images(*, count: int = M, size: int = B) -> Tensor:
    return torch.rand(count, size, 2, 4, 5, generator=generator("images"))


def test_each_image_is_mirrored_or_not_and_half_of_them_are():
    x = images(size=1000)
    mirrored = (flipped(x, streams()) == x.flip(-1)).flatten(2).all(2)
    kept = (flipped(x, streams()) == x).flatten(2).all(2)
    assert torch.equal(mirrored, ~kept)
    assert chisquare(mirrored.sum(1).numpy(), [mirrored.sum().item() / M] * M).pvalue > 1e-3
    assert 1350 < mirrored.sum() < 1650


def test_a_crop_is_a_window_of_the_padded_image_and_all_are_equally_likely():
    x = images(count=1, size=3600)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    windows = torch.stack(
        [padded[..., i : i + 4, j : j + 5] for i in range(3) for j in range(3)], dim=2
    )
    same = (windows == cropped(x, 1, streams(1))[:, :, None]).flatten(3).all(3)
    assert torch.equal(same.sum(2), torch.ones(1, 3600, dtype=torch.int64))
    assert chisquare(same.sum((0, 1)).numpy()).pvalue > 1e-3


def test_mixup_mixes_inputs_and_targets_by_one_share_a_batch():
    x = torch.eye(B, dtype=torch.float64).expand(M, B, B)
    inputs, targets = mixed(x, x, 1.0, streams())
    assert torch.equal(inputs, targets)
    torch.testing.assert_close(targets.sum(2), torch.ones(M, B, dtype=torch.float64))
    torch.testing.assert_close(targets.sum(1), torch.ones(M, B, dtype=torch.float64))
    for found in inputs:
        # The identity mixed with a permutation of itself.
        share = (found.diagonal()[found.diagonal() < 1 - 1e-12]).unique()
        assert len(share) == 1
        others = (found - share * torch.eye(B)).round(decimals=12) / (1 - share)
        assert torch.equal(others.round(decimals=6).unique(), torch.tensor([0.0, 1.0]).double())
    assert not torch.equal(inputs[0], inputs[1])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_a_beta_distribution(alpha: float):
    # Models with inputs 0 and 1: the partner's share is what the first of two inputs loses.
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(2000, 2)
    found, _ = mixed(x, x[..., None], alpha, streams(2000))
    shares = 1 - found[:, 0][found[:, 0] > 0]
    assert 900 < len(shares) < 1100
    assert kstest(shares.numpy(), "beta", args=(alpha, alpha)).pvalue > 0.01


def test_nothing_is_drawn_where_nothing_is_asked():
    x, y = images(), torch.zeros(M, B, dtype=torch.int64)
    own = streams()
    before = [stream.get_state() for stream in own]
    inputs, targets = Augmentation().apply(x, y, own, num_classes=3)
    assert inputs is x
    assert targets is y
    assert all(torch.equal(a, b.get_state()) for a, b in zip(before, own, strict=True))
    assert not Augmentation().present


def test_a_stack_is_augmented_as_its_models_alone():
    x = images()
    y = torch.randint(3, (M, B), generator=generator("targets"))
    inputs, targets = ALL.apply(x, y, streams(), num_classes=3)
    for m, stream in enumerate(streams()):
        alone = ALL.apply(x[m : m + 1], y[m : m + 1], [stream], num_classes=3)
        assert torch.equal(inputs[m], alone[0][0])
        assert torch.equal(targets[m], alone[1][0])
    assert torch.equal(inputs, ALL.apply(x, y, streams(), num_classes=3)[0])


NET = nn.Sequential(nn.Flatten(), nn.Linear(40, 3)).double()
PLAN = Plan(
    epochs=3,
    batch_size=5,
    learning_rate=torch.tensor([0.05, 0.1, 0.02], dtype=torch.float64),
    momentum=torch.tensor([0.0, 0.9, 0.5]),
    weight_decay=torch.full((M,), 1e-3, dtype=torch.float64),
    augmentation=ALL,
)


def split() -> Split:
    x = torch.randn(13, 2, 4, 5, generator=generator("augmented data"))
    return Split(x, x[:, 0, 0, :3].argmax(1), 3, "train")


def run(plan: Plan, models: list[int], *, loss: losses.Loss = CE) -> Trained:
    start = flatten(NET).repeat(len(models), 1)
    columns = {n: getattr(plan, n)[models] for n in ("learning_rate", "momentum", "weight_decay")}
    orders, augmenting = ([generator(what, m) for m in models] for what in ("order", "augment"))
    own = replace(plan, **columns)
    return train(NET, loss, start, split(), own, orders, augmenting=augmenting)


@pytest.mark.parametrize("loss", [CE, MSE], ids=["cross_entropy", "mse"])
def test_a_stack_is_trained_as_its_models_alone(loss: losses.Loss):
    together = run(PLAN, [0, 1, 2], loss=loss)
    for m in range(M):
        alone = run(PLAN, [m], loss=loss)
        assert relative_error(together.theta[m], alone.theta[0]) < 1e-12
    plain = run(replace(PLAN, augmentation=Augmentation()), [0, 1, 2], loss=loss)
    assert relative_error(together.theta, plain.theta) > 1e-3


def test_a_step_with_mixup_is_torch_s_on_the_mixed_batch():
    plan = replace(PLAN, epochs=1, batch_size=13, augmentation=Augmentation(mixup=1.0))
    found = run(plan, [0]).theta[0]
    order = torch.randperm(13, generator=generator("order", 0))
    x, y = split().inputs[order].double(), split().targets[order]
    inputs, targets = Augmentation(mixup=1.0).apply(
        x[None], y[None], [generator("augment", 0)], num_classes=3
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(40, 3)).double()
    net.load_state_dict(NET.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, weight_decay=1e-3)
    nn.functional.cross_entropy(net(inputs[0]), targets[0]).backward()
    optimizer.step()
    assert relative_error(found, flatten(net)) < 1e-12


def test_the_curve_is_that_of_the_examples_as_they_are_trap_12_and_20():
    found = run(PLAN, [0, 1, 2])
    for m in range(M):
        net = nn.Sequential(nn.Flatten(), nn.Linear(40, 3)).double()
        nn.utils.vector_to_parameters(found.theta[m], net.parameters())
        loss = nn.functional.cross_entropy(net(split().inputs.double()), split().targets)
        assert found.curve[-1, m].item() == pytest.approx(loss.item(), rel=1e-10)


@pytest.mark.parametrize(
    "augmentation", [Augmentation(mixup=0.2), Augmentation(flips=True), Augmentation(crops=1)]
)
def test_no_trajectory_of_other_examples_is_kept(augmentation: Augmentation):
    plan = replace(PLAN, keep_trajectory=True, augmentation=augmentation)
    match = "keep_trajectory: found a training that sees augmented examples.*drop keep_trajectory"
    with pytest.raises(InputError, match=match):
        run(plan, [0])


def test_what_looks_at_the_examples_themselves_is_refused():
    saf = replace(PLAN, optimizer="saf", augmentation=Augmentation(mixup=0.2))
    with pytest.raises(InputError, match="optimizer saf: found a training that sees augmented"):
        run(saf, [0])
    with pytest.raises(InputError, match="pof_epochs: found a training that sees augmented"):
        run(replace(PLAN, pof_epochs=1), [0])


def test_a_loss_of_classes_alone_is_not_mixed():
    plan = replace(PLAN, augmentation=Augmentation(mixup=0.2))
    with pytest.raises(InputError, match="train with classes, not with probabilities"):
        run(plan, [0], loss=losses.resolve("supervised_contrastive"))


@pytest.mark.parametrize(
    ("augmentation", "place"),
    [(Augmentation(flips=True), "flips"), (Augmentation(crops=2), "crops")],
)
def test_only_images_are_flipped_and_cropped(augmentation: Augmentation, place: str):
    x = torch.zeros(4, 5)
    data = Split(x, torch.zeros(4, dtype=torch.int64), 3, "flat.train")
    net = CASES["mlp"].module
    plan = replace(PLAN, augmentation=augmentation)
    match = rf"{place}: found flat.train with examples of shape \(5,\), expected images"
    with pytest.raises(InputError, match=match):
        train(net, CE, flatten(net).repeat(M, 1), data, plan, streams())
