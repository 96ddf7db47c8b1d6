"""Residual nets, VGG, transformers and mixers: their sizes and what each layer does."""

import math
import tomllib
from typing import Any

import pytest
import torch
from architectures import IMAGES, NTK, SHAPE, build, moved, relative_error
from torch import Tensor, nn
from torch.nn import functional as F

from gentheory import models
from gentheory.errors import InputError
from gentheory.models.scaling import BIAS_FACTOR, Scale, parametrized
from gentheory.params import Layout
from gentheory.seeds import generator


def size(name: str, shape: tuple[int, ...], num_classes: int = 10, **options: Any) -> int:
    with torch.device("meta"):
        net = models.build(name, shape=shape, num_classes=num_classes, options=options)
    return Layout.of(net).size


CIFAR = (3, 32, 32)


def test_sizes_of_resnets():
    stem, head = 3 * 9 * 16, 64 * 10 + 10
    eight = stem + 9 * (2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + head
    assert size("resnet", CIFAR) == eight + 3 * 16 + 2 * 32 + 2 * 64 == 75_050
    # Three blocks a stage; a normalization has two parameters a channel.
    twenty = stem + 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2) + head
    normalized = twenty + 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert size("resnet", CIFAR, depth=20, norm="batch") == normalized == 269_722
    assert size("resnet", CIFAR, depth=20, norm="group") == normalized
    assert size("resnet", CIFAR, depth=20) == twenty + 7 * 16 + 6 * 32 + 6 * 64
    assert size("resnet", CIFAR, skip=False) == 75_050


def test_sizes_of_vggs():
    # As published, for ImageNet: 133, 138 and 144 million; the table of its paper rounds.
    original = {"shape": (3, 224, 224), "num_classes": 1000, "hidden": 4096}
    assert size("vgg", **original) == 138_357_544
    assert size("vgg", **original, depth=11) == 132_863_336
    assert size("vgg", **original, depth=13) == 133_047_848
    assert size("vgg", **original, depth=19) == 143_667_240
    original["num_classes"] = 10
    assert size("vgg", **original) == 134_301_514
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    pairs += [(256, 512), *[(512, 512)] * 5]
    convolutions = sum(9 * a * b + b for a, b in pairs)
    linear = 2 * (512 * 512 + 512) + 512 * 10 + 10
    assert size("vgg", CIFAR) == convolutions + linear == 15_245_130
    channels = sum(b for _, b in pairs)
    assert size("vgg", CIFAR, norm="batch") == convolutions + channels + linear


def test_sizes_of_nets_on_patches():
    tokens, d = 64, 64
    block = 2 * 2 * d + (d * 3 * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d)
    around = (3 * 16 * d + d) + 2 * d + (d * 10 + 10)
    assert size("vit", CIFAR) == 4 * block + around + tokens * d
    assert size("vit", CIFAR, pool="token") == 4 * block + around + (tokens + 1) * d + d
    across = tokens * 32 + 32 + 32 * tokens + tokens
    within = (d * 4 * d + 4 * d) + (4 * d * d + d)
    assert size("mixer", CIFAR) == 4 * (2 * 2 * d + across + within) + around
    small = {"depth": 1, "width": 3, "patch": 2, "hidden": 5, "token_hidden": 7}
    across, within = 16 * 7 + 7 + 7 * 16 + 16, 3 * 5 + 5 + 5 * 3 + 3
    assert size("mixer", SHAPE, 3, **small) == 12 + across + within + (8 * 3 + 3) + 6 + 12


@pytest.mark.parametrize("side", [1, 7, 28, 32])
@pytest.mark.parametrize("name", ["resnet", "vgg", "vit", "mixer"])
def test_images_of_any_size(name: str, side: int):
    options = {"patch": {1: 1, 7: 7, 28: 7, 32: 8}[side], "width": 4} if name[0] in "vm" else {}
    options = options if name != "vgg" else {"depth": 11}
    net = build(name, {"width": 4, **options}, shape=(1, side, side), num_classes=2)
    assert net(torch.ones(2, 1, side, side, dtype=torch.float64)).shape == (2, 2)


def test_vgg_leaves_out_poolings_of_single_pixels():
    def poolings(side: int, kind: type[nn.Module] = nn.MaxPool2d, **options: Any) -> int:
        net = build("vgg", {"width": 1, **options}, shape=(1, side, side))
        return sum(isinstance(part, kind) for part in net.modules())

    assert [poolings(side) for side in (1, 7, 28, 32)] == [0, 2, 4, 5]
    assert (poolings(8, pool="mean"), poolings(8, nn.AvgPool2d, pool="mean")) == (0, 3)


def test_a_residual_block_by_hand():
    net = moved(build("resnet", {"width": 2}))
    convolutions = [part for part in net.modules() if isinstance(part, nn.Conv2d)]
    assert isinstance(net, nn.Sequential)
    hidden = net[:4](IMAGES)  # the stem and the first block, with their ReLUs

    def convolved(x: Tensor, number: int, stride: int) -> Tensor:
        layer = convolutions[number]
        return F.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1)

    stem = convolved(IMAGES, 0, 1).relu()
    first = stem + convolved(convolved(stem, 1, 1).relu(), 2, 1) / math.sqrt(3)
    assert relative_error(hidden, first.relu()) < 1e-14
    block = convolved(convolved(hidden, 3, 2).relu(), 4, 1) / math.sqrt(3)
    shortcut = torch.cat([hidden[:, :, ::2, ::2], torch.zeros(4, 2, 4, 4).double()], dim=1)
    assert relative_error(net[4:6](hidden), (shortcut + block).relu()) < 1e-14


def test_a_normalized_block_has_no_further_scale():
    net = build("resnet", {"width": 2, "norm": "group"})
    block = net[2].block
    normalized = F.group_norm(block[0][0](IMAGES), 1, eps=1e-5)
    assert relative_error(block[0](IMAGES), normalized) < 1e-14
    groups = [p.num_groups for p in build("resnet", {"width": 6, "norm": "group"}).modules()
              if isinstance(p, nn.GroupNorm)]  # fmt: skip
    assert groups == [3, 3, 3, 3, 3, 3, 3]


def test_attention_is_torch_s_own():
    attention = build("vit", {"width": 6, "heads": 2})[3].block[1]
    peer = nn.MultiheadAttention(6, 2, batch_first=True).double()
    peer.in_proj_weight.data, peer.in_proj_bias.data = (
        p.data for p in attention.inward.parameters()
    )
    peer.out_proj.load_state_dict(attention.outward.state_dict())
    tokens = torch.randn(3, 5, 6, generator=generator("tokens"), dtype=torch.float64)
    assert relative_error(attention(tokens), peer(tokens, tokens, tokens)[0]) < 1e-14


def test_patches_are_those_of_a_convolution():
    net = build("vit", {"width": 6, "heads": 2})
    weight = net[1].weight.view(6, 2, 4, 4)
    expected = F.conv2d(IMAGES, weight, net[1].bias, stride=4).flatten(2).transpose(1, 2)
    assert relative_error(net[:2](IMAGES), expected) < 1e-14
    token = build("vit", {"width": 6, "heads": 2, "pool": "token"})
    placed = token[2](expected)
    assert torch.equal(placed[:, 1:], expected + token[2].position[1:])
    assert torch.equal(placed[1, 0], token[2].token[0, 0] + token[2].position[0])
    assert torch.equal(token[-2](placed), placed[:, 0])


def test_a_mixer_block_by_hand():
    net = build("mixer", {"width": 5})
    x = net[:2](IMAGES)  # four tokens
    across, within = net[2].block, net[3].block
    one, two = across[1].net[0], across[1].net[2]
    mixed = torch.einsum("btd,ht->bhd", F.layer_norm(x, (5,)), one.weight) + one.bias[:, None]
    x = x + torch.einsum("bhd,th->btd", F.gelu(mixed), two.weight) + two.bias[:, None]
    expected = x + within[1][2](F.gelu(within[1][0](F.layer_norm(x, (5,)))))
    assert relative_error(net[2:4](net[:2](IMAGES)), expected) < 1e-14
    assert across[0].normalized_shape == (5,)


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
def test_a_gain_keeps_the_size_of_what_passes_through_relus(parametrization: Any):
    def passed(gain: float | None) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [parametrized(nn.Linear(300, 300), parametrization, gain) for _ in range(12)]
        for layer in (part for net in layers for part in net.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        x = torch.randn(50, 300, generator=generator("x"))
        for layer in layers:
            y = layer(x)
            x = y.relu()
        return float(y.detach().square().mean())

    assert passed(math.sqrt(2)) == pytest.approx(2, rel=0.3)  # as after the first layer
    halved = 1 / 2 if parametrization == "ntk" else 1 / 6
    assert passed(None) == pytest.approx(2 * halved**12, rel=0.3)


@pytest.mark.parametrize(("name", "side"), [("resnet", 7), ("vgg", 7), ("vgg", 32)])
def test_weights_are_scaled_to_the_pixels_that_kernels_meet(name: str, side: int):
    net = build(name, {"width": 16}, shape=(2, side, side)).eval()
    seen: list[tuple[nn.Conv2d, tuple[int, ...]]] = []

    def hook(layer: nn.Module, args: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        seen.append((layer, (1, 1, *args[0].shape[2:])))

    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(hook)
    net(torch.zeros(1, 2, side, side, dtype=torch.float64))
    assert len(seen) == (7 if name == "resnet" else 13)
    for layer, shape in seen:
        met = F.conv2d(torch.ones(shape), torch.ones(1, 1, 3, 3), stride=layer.stride, padding=1)
        fan_in = layer.in_channels * float(met.mean())
        assert layer.bias is not None
        assert not layer.bias.any()
        relative = float(layer.weight.detach().square().mean()) * fan_in / 2
        assert abs(relative - 1) < 4 * math.sqrt(2 / layer.weight.numel())


def test_ntk_convolutions_have_the_same_gain():
    factors = [
        p.factor for p in build("vgg", {"width": 2, **NTK}).modules() if isinstance(p, Scale)
    ]
    assert factors[0] * factors[1] == pytest.approx(math.sqrt(2 / (2 * 2.75**2)))
    assert factors[1] == BIAS_FACTOR


def test_vgg_keeps_the_size_of_small_images():
    """Convolutions that see one pixel would each take 8 / 9 of the mean square away."""
    image = torch.randn(2, 7, 7, generator=generator("image"), dtype=torch.float64)
    last = torch.stack(
        [
            build("vgg", {"width": 16, "pool": "mean"}, seed, shape=(2, 7, 7))[:-1](image[None])
            for seed in range(10)
        ]
    )
    assert 1e-2 < float(last.detach().square().mean()) < 1


@pytest.mark.parametrize("depth", [8, 20, 50])
def test_blocks_without_normalization_stay_bounded(depth: int):
    """Each of L blocks adds 2 / L of what it finds at most: e² in all, to be halved by ReLUs."""
    sizes = []
    for seed in range(3):
        net = build("resnet", {"depth": depth, "width": 4}, seed)
        stem, end = net[:2](IMAGES).square().mean(), net[:-3](IMAGES).square().mean()
        sizes.append((end / stem).item())
    assert 0.1 < sum(sizes) / len(sizes) < math.e**2


def test_every_architecture_of_the_list_can_be_built():
    rows = [line.strip() for line in str(models.__doc__).splitlines() if line.strip()[:1] == "{"]
    listed = tomllib.loads(f"architectures = [{', '.join(rows)}]")["architectures"]
    assert len({row["label"] for row in listed}) == 17
    for row in listed:
        shape = (49,) if row["model"] in ("mlp", "committee") else (3, 28, 28)
        outputs = 1 if row["model"] == "committee" else 10
        assert size(row["model"], shape, outputs, **row["options"]) > 500


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet", {"depth": 9}, "resnet.depth: found 9, expected 6n [+] 2: 8, 14, 20, …; choose"),
        ("resnet", {"depth": 2}, "resnet.depth: found 2, expected 6n"),
        ("resnet", {"width": 0}, "resnet.width: found 0, expected a whole number of at least 1"),
        (
            "resnet",
            {"norm": "layer"},
            "resnet.norm: found 'layer', expected one of 'none'",
        ),
        ("resnet", {"norm": []}, "resnet.norm: found \\[\\], expected one of"),
        ("resnet", {"skip": 1}, "resnet.skip: found 1, expected true or false"),
        ("resnet", {"output_scale": 0}, "resnet.output_scale: found 0, expected a number above 0"),
        ("vgg", {"depth": 12}, "vgg.depth: found 12, expected one of 11, 13, 16, 19; choose one"),
        ("vgg", {"depth": 16.0}, "vgg.depth: found 16.0, expected one of"),
        ("vgg", {"width": 1.5}, "vgg.width: found 1.5"),
        ("vgg", {"hidden": 0}, "vgg.hidden: found 0"),
        ("vgg", {"pool": "min"}, "vgg.pool: found 'min', expected 'max' or 'mean'"),
        ("vgg", {"norm": True}, "vgg.norm: found True"),
        ("vgg", {"parametrization": "mup"}, "vgg.parametrization: found 'mup'"),
        ("vit", {"heads": 3, "width": 8}, "vit.heads: found 3 for width 8, expected a divisor"),
        ("vit", {"patch": 3}, "vit.patch: found 3 for images 8×8, expected one of 1, 2, 4, 8"),
        ("vit", {"patch": 0}, "vit.patch: found 0, expected a whole number"),
        ("vit", {"pool": "max"}, "vit.pool: found 'max', expected 'mean' or 'token'"),
        ("vit", {"hidden": -1}, "vit.hidden: found -1"),
        ("mixer", {"patch": 16}, "mixer.patch: found 16 for images 8×8"),
        ("mixer", {"token_hidden": 0}, "mixer.token_hidden: found 0"),
        ("mixer", {"depth": 0}, "mixer.depth: found 0"),
        ("mixer", {"symmetrized": 0}, "mixer.symmetrized: found 0, expected true or false"),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        build(name, options)


@pytest.mark.parametrize("name", ["resnet", "vgg", "vit", "mixer"])
def test_they_need_images(name: str):
    with pytest.raises(
        InputError, match=rf"{name}: found inputs of shape \(64,\), expected images"
    ):
        models.build(name, shape=(64,), num_classes=3)
