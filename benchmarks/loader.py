"""What nngeometry needs to do its best here: a loader of one batch, and a Fisher without nan."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FISHER_NOTE = "the Fisher as p^½ ∇log p: its own factor of it is nan for confident predictions"


class OneBatch(DataLoader):
    """Yields (x, y) as they are; a plain loader would stack them example by example each time."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(TensorDataset(x, y), batch_size=len(x))
        self._batch = (x, y)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self._batch


def fisher_generator(model: nn.Module):
    """nngeometry's generator of Σ_c p_c ∇log p_c ∇log p_cᵀ, the exact Fisher of a classifier.

    `nngeometry.metrics.FIM` factors the same matrix by a cumulative sum of the probabilities,
    which is off by rounding in float32, and takes the root of what then is negative.
    """
    from nngeometry.backend import TorchHooksJacobianBackend

    def rooted(*batch: Tensor) -> Tensor:
        log_p = torch.log_softmax(model(batch[0]), dim=1)
        return log_p * log_p.detach().exp().sqrt()

    return TorchHooksJacobianBackend(model=model, function=rooted)
