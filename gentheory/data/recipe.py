"""Which examples a model was trained on, as a few values that rebuild them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gentheory.data import load, load_shifted
from gentheory.data.corruptions import label_noise, subset
from gentheory.data.imbalance import Imbalance, class_shares, imbalanced
from gentheory.data.split import Split
from gentheory.errors import InputError
from gentheory.seeds import generator


@dataclass(frozen=True)
class Recipe:
    """A data set, how many of its training examples, how imbalanced, what share of wrong labels.

    Imbalance is that of `class_shares`, before the label noise and for the training and held-out
    examples alone: the test data keep the classes of the data set, so that the gap is that to
    balanced test data.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    n_train: int | None = None  # None: all
    label_noise: float = 0.0
    seed: int = 0
    imbalance: Imbalance = "none"
    imbalance_ratio: float = 1.0

    @property
    def label(self) -> str:
        """The data set's name with its options, for people."""
        return ", ".join([self.name, *(f"{name} {value}" for name, value in self.options.items())])

    def indices(self) -> Int[Tensor, " N"]:
        """Which training examples, in a random order that nests: n = 100 begins n = 300."""
        usable = self._usable()
        count = len(usable) if self.n_train is None else self.n_train
        if not 1 <= count <= len(usable):
            raise InputError(
                "data.n_train",
                str(count),
                f"1 to {len(usable)} for {self.described()}",
                "choose fewer",
            )
        return usable[:count]

    def _usable(self) -> Int[Tensor, " N"]:
        """All training examples that the imbalance leaves, in the order that nests."""
        data = load(self.name, **self.options)[0]
        if data.real and self.imbalance != "none":
            raise self._no_classes("imbalance")
        stream = generator("subset", self.name, self.seed)
        shuffled = subset(len(data), len(data), generator=stream)
        shares = class_shares(self.imbalance, self.imbalance_ratio, data.num_classes)
        if self.imbalance == "none":
            return shuffled
        return shuffled[imbalanced(data.targets[shuffled], shares)]

    def described(self) -> str:
        """The data's name with their imbalance, for messages."""
        kind, ratio = self.imbalance, self.imbalance_ratio
        return self.name + ("" if kind == "none" else f" with {kind} imbalance {ratio:g}")

    def available(self) -> int:
        """How many training examples there are, of which `n_train` are used."""
        return len(self._usable())

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
                f"1 to {left}, as {self.described()} has {len(everything)} for training",
                "choose fewer, or a smaller n_train",
            )
        return everything[len(everything) - count :]

    def with_following(self, count: int) -> "Recipe":
        """These training examples and the `count` that follow them in the random order."""
        return replace(self, n_train=len(self.indices()) + count)

    def following(self, count: int) -> Split:
        """The examples that `with_following` adds: what a user would hold out for validation.

        Their label noise is that of the larger training, where it is drawn anew for all. Raises
        `InputError` where fewer are left.
        """
        both = self.with_following(count).train()
        return both.take(torch.arange(len(both) - count, len(both)))

    def _noisy(self, indices: Int[Tensor, " N"], stream: str) -> Split:
        return self._mislabelled(load(self.name, **self.options)[0].take(indices), stream)

    def _no_classes(self, option: str) -> InputError:
        return InputError(
            f"data.{option}", f"{self.name}, whose targets are no classes", "classes", "drop it"
        )

    def _mislabelled(self, chosen: Split, stream: str) -> Split:
        if chosen.real:
            if self.label_noise:
                raise self._no_classes("label_noise")
            return chosen
        targets = label_noise(
            chosen.targets,
            self.label_noise,
            num_classes=chosen.num_classes,
            generator=generator(stream, self.name, self.seed),
        )
        return replace(chosen, targets=targets)

    def test(self) -> Split:
        """The test examples with the training data's label noise: a gap is between data alike.

        `training/evaluate.py` alone may ask for them.
        """
        return self._mislabelled(self.clean_test(), "label noise, test")

    def num_test(self) -> int:
        """How many test examples there are."""
        return len(load(self.name, **self.options)[1])

    def clean_test(self) -> Split:
        """The untouched test examples; `training/evaluate.py` alone may ask for them."""
        return load(self.name, **self.options)[1]

    def shifted_test(self) -> Split | None:
        """Examples of the environment kept out of training, with the training data's label noise.

        None where the data set has no such environment; `training/evaluate.py` alone may ask.
        """
        found = load_shifted(self.name, **self.options)
        return None if found is None else self._mislabelled(found, "label noise, shifted")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for metadata."""
        return asdict(self)
