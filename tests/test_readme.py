"""What the README says works as it stands there."""

import re
from pathlib import Path

import torch
from torch import nn

from gentheory.measures import CHEAP, expanded, families, names

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_lines_of_python_measure_a_model_of_ones_own(capsys):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    random = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    inputs = torch.randn(40, 5, generator=random)
    targets = torch.randint(3, (40,), generator=random)
    scope = {"model": model, "train_data": (inputs, targets)}
    exec(block[1], scope)
    printed = capsys.readouterr().out
    assert "tic.trace_ratio" in printed
    assert "spectra.top" in printed
    estimate = scope["result"]["tic.diagonal"]
    assert estimate.status == "ok"
    assert estimate.value > 0
    assert f"{estimate.value}" in printed


def test_the_table_names_every_measure():
    table = README[README.index("| measure | what |") : README.index("`gentheory measures` lists")]
    assert sorted(re.findall(r"`(\w+\.\w+)`", table)) == names()


def test_the_cheap_battery_is_what_it_is_said_to_be():
    start = README.index("`-m cheap`")
    said = re.findall(r"`([a-z0-9_.]+)`", README[start : README.index("Conventions that differ")])
    assert set(said) <= {*families(), *names()}
    assert set(expanded(said)) == set(CHEAP)
    assert expanded("cheap") == list(CHEAP)
    assert set(CHEAP) < set(names())


def test_the_first_lines_are_the_two_commands():
    commands = re.search(r"```\n(.*?)```", README, re.DOTALL)
    assert commands is not None
    assert re.findall(r"^make (\w+)", commands[1], re.MULTILINE) == ["demo", "test"]
