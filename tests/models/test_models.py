"""Networks from names and options: their shapes, their sizes, their seeds."""

import math

import pytest
import torch
from torch import nn

from gentheory import models
from gentheory.errors import InputError
from gentheory.params import Layout, flatten
from gentheory.seeds import generator

IMAGES = torch.randn(5, 2, 6, 7, generator=generator("images"))
MLPS = {
    "plain": {},
    "one layer": {"depth": 1},
    "skip": {"depth": 4, "width": 5, "skip": True},
    "linear": {"activation": "linear"},
    "gelu": {"activation": "gelu"},
    "tanh": {"activation": "tanh"},
    "without bias": {"bias": False},
    "logits of an embedding": {"embedding": 3, "embedding_relu": True},
    "group norm": {"norm": "group"},
}
CNNS = {
    "plain": {},
    "deep": {"depth": 4, "width": 2},
    "strided": {"down": "stride", "depth": 3},
    "group norm": {"norm": "group"},
    "without bias": {"bias": False},
}


def build(name: str, **options: object) -> nn.Module:
    return models.build(name, shape=(2, 6, 7), num_classes=3, seed=0, options=options)


@pytest.mark.parametrize(
    ("name", "options"),
    [*(("mlp", o) for o in MLPS.values()), *(("cnn", o) for o in CNNS.values())],
)
def test_a_row_of_outputs_for_each_input_whatever_the_batch(name: str, options: dict[str, object]):
    net = build(name, **options)
    outputs = net(IMAGES)
    assert outputs.shape == (5, 3)
    assert torch.allclose(net(IMAGES[2:3]), outputs[2:3], atol=1e-6)
    assert not list(net.buffers())  # no hidden batch state
    assert torch.equal(net.eval()(IMAGES), outputs)


@pytest.mark.parametrize(
    ("depth", "width", "bias", "size"),
    [
        (1, 10, True, 84 * 3 + 3),
        (2, 10, True, 84 * 10 + 10 + 10 * 3 + 3),
        (4, 5, False, 84 * 5 + 25 + 25 + 15),
    ],
)
def test_sizes_of_mlps(depth: int, width: int, bias: bool, size: int):
    assert Layout.of(build("mlp", depth=depth, width=width, bias=bias)).size == size


def test_size_of_a_cnn():
    # 6x7 is pooled to 3x3 and 1x1; the third convolution sees 1x1 and is not pooled
    size = (2 * 9 * 4 + 4) + (4 * 9 * 8 + 8) + (8 * 9 * 16 + 16) + (16 * 3 + 3)
    assert Layout.of(build("cnn", width=4, depth=3)).size == size
    # 6x7 becomes 3x4, 2x2 and 1x1
    assert Layout.of(build("cnn", width=4, depth=3, down="stride")).size == size
    # 6x7 becomes 3x4 here, and 3x3 by pooling
    assert Layout.of(build("cnn", depth=1, width=4, down="stride")).size == 76 + 48 * 3 + 3
    assert Layout.of(build("cnn", depth=1, width=4)).size == 76 + 36 * 3 + 3


def test_deep_linear_nets_are_linear_and_others_are_not():
    x, y = IMAGES[:2], IMAGES[2:4]
    for name, linear in (("linear", True), ("relu", False), ("tanh", False), ("gelu", False)):
        net = build("mlp", activation=name, depth=4)
        difference = net(x + y) - net(x) - net(y) + net(torch.zeros_like(x))
        assert (difference.abs().max() < 1e-5) == linear


def test_an_embedding_is_what_the_last_module_is_given():
    for relu in (False, True):
        net = build("mlp", depth=3, embedding=7, embedding_relu=relu)
        given: list[torch.Tensor] = []
        net[-1].register_forward_pre_hook(lambda _, args, seen=given: seen.append(args[0]))
        outputs = net(IMAGES)
        assert outputs.shape == (5, 7)
        assert torch.equal(given[0], outputs)
        assert bool((outputs >= 0).all()) is relu
        assert torch.allclose(outputs.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": 0}, "mlp.embedding: found 0, expected a whole number of at least 1"),
        ({"embedding_relu": True}, "mlp.embedding_relu: found true, expected an embedding"),
        ({"embedding": 4, "embedding_relu": "yes"}, "mlp.embedding_relu: found 'yes'"),
    ],
)
def test_embeddings_that_cannot_be_are_refused(options: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        build("mlp", **options)


def test_skips_add_the_input_of_each_hidden_layer_but_the_first():
    net = build("mlp", depth=4, width=5, skip=True)
    hidden = [part for part in net.modules() if isinstance(part, nn.Linear)]
    assert [layer.in_features for layer in hidden] == [84, 5, 5, 5]
    with torch.no_grad():
        for layer in hidden[1:3]:
            layer.weight.zero_()
            layer.bias.zero_()
    # Two blocks that give nothing: what is left is the shallow net.
    expected = hidden[3](hidden[0](IMAGES.flatten(1)).relu())
    assert torch.allclose(net(IMAGES), expected, atol=1e-6)
    plain = build("mlp", depth=4, width=5)
    assert Layout.of(plain).size == Layout.of(net).size


def test_a_convolutional_layer_by_hand():
    net = build("cnn", depth=1, width=3)
    convolution, _, _, _, last = net
    hidden = nn.functional.conv2d(IMAGES, convolution.weight, convolution.bias, padding=1).relu()
    pooled = torch.stack(
        [
            hidden[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
            for i in range(3)
            for j in range(3)
        ],
        dim=2,
    )
    assert torch.allclose(net(IMAGES), last(pooled.flatten(1)), atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_trap_38_the_seed_alone_decides(name: str):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = flatten(build(name))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(flatten(build(name)), first)
    other = models.build(name, shape=(2, 6, 7), num_classes=3, seed=1)
    assert not torch.equal(flatten(other), first)


def test_without_a_seed_the_global_generator_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = flatten(models.build("mlp", shape=(4,), num_classes=2))
        assert not torch.equal(flatten(models.build("mlp", shape=(4,), num_classes=2)), first)


def test_initialization_is_torch_s_own():
    net = models.mlp(shape=(400,), num_classes=3, width=50)
    weight = net.get_submodule("1.0").weight
    bound = 1 / math.sqrt(400)
    assert weight.abs().max() <= bound
    # Uniform on ±bound: a standard deviation of bound / √3, over 20,000 entries.
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet", {}, "model: found 'lenet', expected one of mlp, cnn, resnet, vgg, vit, mixer"),
        ("mlp", {"widht": 3}, "model mlp: found option 'widht', expected one of depth, width, act"),
        ("mlp", {"shape": (3,)}, "model mlp: found option 'shape'"),
        ("mlp", {"depth": 0}, "mlp.depth: found 0, expected a whole number of at least 1"),
        ("mlp", {"width": 2.0}, "mlp.width: found 2.0, expected a whole number"),
        ("mlp", {"width": True}, "mlp.width: found True"),
        (
            "mlp",
            {"activation": "swish"},
            "mlp.activation: found 'swish', expected one of 'relu', 'gelu', 'tanh', 'linear'",
        ),
        ("cnn", {"depth": -1}, "cnn.depth: found -1"),
        ("cnn", {"width": "8"}, "cnn.width: found '8'"),
        ("cnn", {"down": "sample"}, "cnn.down: found 'sample', expected 'pool' or 'stride'"),
    ],
)
def test_what_cannot_be_built(name: str, options: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        build(name, **options)


def test_a_cnn_needs_images():
    with pytest.raises(InputError, match=r"cnn: found inputs of shape \(64,\), expected images"):
        models.build("cnn", shape=(64,), num_classes=3)
