"""Which examples a model was trained on, as a few values that rebuild them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from gentheory.data import load
from gentheory.data.corruptions import label_noise, subset
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator


@dataclass(frozen=True)
class Recipe:
    """A data set, how many of its training examples, and what share of wrong labels."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    n_train: int | None = None  # None: all
    label_noise: float = 0.0
    seed: int = 0

    @property
    def label(self) -> str:
        """The data set's name with its options, for people."""
        return ", ".join([self.name, *(f"{name} {value}" for name, value in self.options.items())])

    def indices(self) -> Int[Tensor, " N"]:
        """Which training examples, in a random order that nests: n = 100 begins n = 300."""
        available = len(load(self.name, **self.options)[0])
        count = available if self.n_train is None else self.n_train
        chosen = subset(available, available, generator=generator("subset", self.name, self.seed))
        if not 1 <= count <= available:
            raise InputError(
                "data.n_train", str(count), f"1 to {available} for {self.name}", "choose fewer"
            )
        return chosen[:count]

    def train(self) -> Split:
        """The training examples with their label noise. Raises `InputError` as `load` does."""
        return self._noisy(self.indices(), "label noise")

    def held_out(self, count: int) -> Split:
        """Examples that a user could have trained on but did not, with the same label noise.

        Raises `InputError` as `held_out_indices` does.
        """
        return self._noisy(self.held_out_indices(count), "label noise, held out")

    def held_out_indices(self, count: int) -> Int[Tensor, " N"]:
        """Which ones: the last of the random order, the same whatever `n_train` is.

        Raises `InputError` where fewer than `count` are left beside those trained on.
        """
        everything, trained = replace(self, n_train=None).indices(), len(self.indices())
        left = len(everything) - trained
        if not 1 <= count <= left:
            raise InputError(
                "held_out",
                f"{count} examples beside the {trained} trained on",
                f"1 to {left}, as {self.name} has {len(everything)} for training",
                "choose fewer, or a smaller n_train",
            )
        return everything[len(everything) - count :]

    def _noisy(self, indices: Int[Tensor, " N"], stream: str) -> Split:
        return self._mislabelled(load(self.name, **self.options)[0].take(indices), stream)

    def _mislabelled(self, chosen: Split, stream: str) -> Split:
        targets = label_noise(
            chosen.targets,
            self.label_noise,
            num_classes=chosen.num_classes,
            generator=generator(stream, self.name, self.seed),
        )
        return Split(chosen.inputs, targets, chosen.num_classes, chosen.name)

    def test(self) -> Split:
        """The test examples with the training data's label noise: a gap is between data alike.

        `training/evaluate.py` alone may ask for them.
        """
        return self._mislabelled(self.clean_test(), "label noise, test")

    def clean_test(self) -> Split:
        """The untouched test examples; `training/evaluate.py` alone may ask for them."""
        return load(self.name, **self.options)[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return asdict(self)
