"""Models of the transformers library: named inputs, `ModelOutput`, attention with padding."""

from typing import Any

import oracle
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import gentheory as gt

transformers = pytest.importorskip("transformers")

TOKENS, LENGTH, COUNT = 11, 5, 6


def bert() -> nn.Module:
    """Of about 400 parameters, in float64 and with its dropout."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=TOKENS,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=6,
        max_position_embeddings=LENGTH,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config).double()


class Texts(Dataset):
    """Rows of tokens of different lengths, padded and masked."""

    def __init__(self) -> None:
        stream = torch.Generator().manual_seed(1)
        self.ids = torch.randint(1, TOKENS, (COUNT, LENGTH), generator=stream)
        self.mask = torch.ones(COUNT, LENGTH, dtype=torch.int64)
        self.mask[1, 3:] = 0
        self.mask[4, 2:] = 0
        self.labels = torch.arange(COUNT) % 3

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        named = {"input_ids": self.ids[i], "attention_mask": self.mask[i]}
        return {**named, "labels": self.labels[i]}


class Joined(nn.Module):
    """The same model on one tensor: what a user would write by hand."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(input_ids=x[:, :LENGTH], attention_mask=x[:, LENGTH:]).logits


def forms() -> dict[str, Any]:
    texts = Texts()
    named = {"input_ids": texts.ids, "attention_mask": texts.mask}
    return {
        "dataset": texts,
        "loader": DataLoader(texts, batch_size=4, shuffle=True),
        "batches with labels": [{**named, "labels": texts.labels}],
        "pairs of a mapping and targets": [(named, texts.labels)],
    }


@pytest.fixture(scope="module")
def dense() -> oracle.Dense:
    texts = Texts()
    x = torch.cat([texts.ids, texts.mask], dim=1)
    values = lambda f, y: F.cross_entropy(f, y, reduction="none")  # noqa: E731
    return oracle.dense(Joined(bert()), values, x, texts.labels)


@pytest.mark.parametrize("form", forms())
def test_named_inputs_give_the_risk_of_the_model_written_by_hand(
    form: str, dense: oracle.Dense
) -> None:
    risk = gt.EmpiricalRisk(bert(), "cross_entropy", forms()[form], batch_size=4)
    assert risk.num_examples == COUNT
    assert float(risk.value()) == pytest.approx(dense.value, rel=1e-12)
    assert oracle.relative_error(risk.gradient(), dense.mean_gradient) < 1e-10


def test_curvature_and_tic_of_a_transformer(dense: oracle.Dense, untraced: None) -> None:
    risk = gt.EmpiricalRisk(bert(), "cross_entropy", Texts())
    v = torch.randn(3, risk.num_params, generator=torch.Generator().manual_seed(2)).double()
    assert oracle.relative_error(gt.hessian(risk)(v), v @ dense.hessian) < 1e-10
    assert oracle.relative_error(gt.ggn(risk)(v), v @ dense.ggn) < 1e-10
    exact = gt.measure(risk, "tic.exact", options={"tic.exact": {"damping": 0.1}})["tic.exact"]
    ridge = exact.stats["absolute_damping"]
    shifted = dense.ggn + ridge * torch.eye(len(v[0])).double()
    trace = torch.linalg.solve(shifted, dense.covariance).trace() / COUNT
    assert exact.value == pytest.approx(float(trace), rel=1e-8)


def test_every_measure_gives_a_number_or_a_reason(untraced: None) -> None:
    risk = gt.EmpiricalRisk(bert(), "cross_entropy", Texts())
    short = {"num_chains": 2, "num_steps": 40, "burn_in": 20}
    chains = {f"singular.{name}": short for name in ("learning_coefficient", "wbic")}
    subject = gt.Checkpoint(risk, torch.zeros_like(risk.theta))
    found = gt.measure(subject, gt.measures.names(), options=chains)
    broken = {name: e.reason for name, e in found.items() if e.status == "failed"}
    assert not broken
