"""The handwritten digits that ship with scikit-learn: real images, and nothing to download."""

import numpy as np
import torch

from gentheory.data.images import image_splits
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator

NUM_IMAGES = 1797


def digits(*, num_test: int = 597) -> tuple[Split, Split]:
    """1,797 images of 8 x 8 pixels, 10 classes, as (train, test); inputs [N, 1, 8, 8].

    One private permutation, the same in every process, orders the images; the first `num_test`
    are the test part, so that a smaller test part lies within a larger one. Pixels are scaled to
    [0, 1], then by the training part's scalar mean and standard deviation, both parts alike.
    Raises `InputError` for a `num_test` that leaves either part empty.
    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI.
    """
    if not 1 <= num_test < NUM_IMAGES:
        raise InputError(
            "data.num_test", f"{num_test}", f"1 to {NUM_IMAGES - 1}", "give a number between"
        )
    # The import takes longer than torch's: only those who use the digits pay for it.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images, labels = np.asarray(images).reshape(-1, 1, 8, 8), np.asarray(labels)
    order = torch.randperm(NUM_IMAGES, generator=generator("digits", "split")).numpy()
    test, train = order[:num_test], order[num_test:]
    return image_splits(
        (images[train], labels[train]),
        (images[test], labels[test]),
        white=16,
        num_classes=10,
        name="digits",
    )
