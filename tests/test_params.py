"""One flat vector a model, each trainable number in it exactly once."""

import pytest
import torch
from cases import CASES, Case
from nets import TiedModules
from torch import nn

import gentheory as gt
from gentheory.errors import InputError
from gentheory.params import Layout, flatten, load_flat, trainable


def test_the_order_is_the_module_s_own():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    layout = Layout.of(net)
    assert layout.names == ("0.weight", "0.bias", "1.weight")
    assert layout.shapes == ((3, 2), (3,), (1, 3))
    assert layout.slices == {
        "0.weight": slice(0, 6),
        "0.bias": slice(6, 9),
        "1.weight": slice(9, 12),
    }
    expected = [
        *net[0].weight.flatten().tolist(),
        *net[0].bias.tolist(),
        *net[1].weight[0].tolist(),
    ]
    assert flatten(net).tolist() == expected


def test_flatten_inverts_unflatten(case: Case):
    layout = Layout.of(case.module)
    stack = torch.randn(2, 3, layout.size, generator=torch.Generator().manual_seed(0))
    parts = layout.unflatten(stack)
    assert [tuple(parts[n].shape) for n in layout.names] == [(2, 3, *s) for s in layout.shapes]
    assert torch.equal(layout.flatten(parts), stack)


def test_unflattened_tensors_are_views():
    layout = Layout.of(nn.Linear(2, 2))
    stack = torch.zeros(3, layout.size)
    layout.unflatten(stack)["bias"].fill_(1.0)
    assert stack.tolist() == [[0, 0, 0, 0, 1, 1]] * 3


def test_flatten_copies():
    net = nn.Linear(2, 1)
    theta = flatten(net)
    theta += 1
    assert not theta.requires_grad
    assert torch.equal(theta, flatten(net) + 1)


def test_load_flat_writes_every_alias_and_no_frozen_number(case: Case):
    net = case.module
    frozen = {n: p.clone() for n, p in net.named_parameters() if not p.requires_grad}
    theta = torch.arange(Layout.of(net).size, dtype=torch.float64)
    load_flat(net, theta)
    assert torch.equal(flatten(net), theta)
    assert all(torch.equal(p, frozen[n]) for n, p in net.named_parameters() if n in frozen)


def test_trap_15_tied_weights_count_once():
    net = TiedModules()
    assert Layout.of(net).names == (
        "first.weight",
        "first.bias",
        "second.bias",
        "last.weight",
        "last.bias",
    )
    assert Layout.of(net).size == 16 + 4 + 4 + 12 + 3


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_trap_15_two_parameters_on_one_memory_are_refused(dtype: torch.dtype | None):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = nn.Parameter(net[0].weight.data)
    expected = "parameters '0.weight' and '1.weight': found two Parameters on the same memory"
    with pytest.raises(InputError, match=expected):
        trainable(net)
    # A conversion gives each its own memory: the risk must look before it converts.
    with pytest.raises(InputError, match=expected):
        gt.EmpiricalRisk(net, "mse", (torch.zeros(3, 2), torch.zeros(3, 2)), dtype=dtype)


def test_parameters_without_memory_are_not_taken_for_tied():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to("meta")
    assert Layout.of(net).size == 12
    empty = nn.ParameterList([torch.zeros(0), torch.zeros(0), torch.zeros(2)])
    assert Layout.of(empty).size == 2


def test_trap_17_frozen_parameters_are_no_part_of_theta():
    layout = Layout.of(CASES["frozen"].module)
    assert layout.names == ("2.weight", "2.bias", "4.weight")


def test_a_scalar_parameter_is_one_number():
    layout = Layout.of(CASES["scalar"].module)
    assert layout.shapes == ((5, 3), ())
    assert layout.unflatten(torch.arange(16.0))["temperature"].item() == 15.0
    assert layout.unflatten(torch.ones(4, 16))["temperature"].shape == (4,)


def test_nothing_to_train_is_refused():
    net = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(InputError, match="Linear: found no trainable parameter, expected at least"):
        Layout.of(net)
    with pytest.raises(InputError, match="Sequential: found no trainable parameter"):
        flatten(nn.Sequential(nn.ReLU()))


def test_a_vector_of_another_model_is_refused():
    with pytest.raises(InputError, match="theta: found 5 numbers, expected 6"):
        load_flat(nn.Linear(2, 2), torch.zeros(5))
