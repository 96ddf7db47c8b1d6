"""Streams are named by their purpose: the same name, the same numbers; another name, others."""

import hashlib

import numpy as np
import pytest
import torch

from gentheory.seeds import generator, seed_of


def test_a_seed_is_the_head_of_the_sha256_of_its_json():
    digest = hashlib.sha256(b'[0,"init",{"a":1,"b":2.5}]').hexdigest()
    assert seed_of(0, "init", {"b": 2.5, "a": 1}) == int(digest[:16], 16) // 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 1), (1, 0)),
        (("1",), (1,)),
        ((True,), (1,)),
        ((1.0,), (1,)),
        (("ab", "c"), ("a", "bc")),
        (([1, 2],), (1, 2)),
        ((None,), ()),
    ],
)
def test_other_parts_are_another_seed(one: tuple[object, ...], other: tuple[object, ...]):
    assert seed_of(*one) != seed_of(*other)


def test_seeds_fit_the_generators_and_spread_over_their_range():
    seeds = np.array([seed_of("spread", i) for i in range(2000)], dtype=np.float64) / 2**63
    assert seeds.min() >= 0
    assert seeds.max() < 1
    # The mean of 2000 uniform numbers has a standard error of 0.0065.
    assert abs(seeds.mean() - 0.5) < 3 * 0.0065


def test_generators_repeat_their_stream_and_have_their_own():
    first = torch.randn(1000, generator=generator(7, "probes"))
    assert torch.equal(first, torch.randn(1000, generator=generator(7, "probes")))
    second = torch.randn(1000, generator=generator(7, "order"))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 3 / 1000**0.5


def test_trap_38_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=generator("anything"))
    assert torch.equal(before, torch.get_rng_state())


def test_what_has_no_json_has_no_seed():
    with pytest.raises(TypeError, match="Object of type device is not JSON serializable"):
        seed_of(torch.device("cpu"))
