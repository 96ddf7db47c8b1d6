"""Loaders are read as what they draw: never more examples than that, never fewer."""

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from gentheory.data.batches import ChosenBatches, batches

DATASET = TensorDataset(torch.arange(10.0)[:, None], torch.arange(10) % 3)
TRAINING = [7, 1, 4, 8]


def read(loader: DataLoader) -> list[int]:
    """The examples in the order in which they come, the same at two passes."""
    frozen = batches(loader, batch_size=3)
    first, second = ([int(x) for inputs, _ in frozen for x in inputs] for _ in range(2))
    assert first == second
    return first


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}])
def test_a_plain_loader_is_the_whole_dataset(options):
    assert read(DataLoader(DATASET, batch_size=4, **options)) == list(range(10))


def test_a_subset_sampler_keeps_the_validation_examples_out():
    loader = DataLoader(DATASET, batch_size=3, sampler=SubsetRandomSampler(TRAINING))
    assert read(loader) == sorted(TRAINING)


def test_a_batch_sampler_decides_too():
    sampler = BatchSampler(SubsetRandomSampler(TRAINING), batch_size=3, drop_last=False)
    assert read(DataLoader(DATASET, batch_sampler=sampler)) == sorted(TRAINING)


def test_a_random_sampler_of_a_part_is_drawn_once():
    loader = DataLoader(DATASET, batch_size=3, sampler=RandomSampler(DATASET, num_samples=6))
    state = torch.get_rng_state()
    found = read(loader)
    assert len(found) == 6
    assert torch.equal(state, torch.get_rng_state())


def test_a_loader_without_batching_yields_the_batches_of_its_dataset():
    whole = [(torch.arange(4.0)[:, None], torch.arange(4) % 3)]
    assert read(DataLoader(whole, batch_size=None)) == [0, 1, 2, 3]


@pytest.mark.parametrize("cut", [1, 3, 4, 100])
def test_chosen_examples_come_in_order_and_in_full_batches(cut: int):
    x, y = torch.arange(10.0)[:, None], torch.arange(10) % 3
    source = batches((x, y), batch_size=cut)
    chosen = ChosenBatches(source, lambda targets: targets != 1, 4)
    found = list(chosen)
    assert torch.cat([inputs for inputs, _ in found])[:, 0].tolist() == [0, 2, 3, 5, 6, 8, 9]
    assert torch.cat([targets for _, targets in found]).tolist() == [0, 2, 0, 2, 0, 2, 0]
    assert all(len(inputs) >= 4 for inputs, _ in found[:-1])
    assert chosen.in_memory
    assert list(ChosenBatches(source, lambda targets: targets > 5, 4)) == []
