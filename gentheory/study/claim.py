"""What a paper claims, written so that a study's numbers can agree or disagree with it."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from gentheory.study.settings import Section

Statistic = Literal["kendall", "spearman", "pearson", "partial_kendall"]
Where = dict[str, Annotated[list[Any], Field(min_length=1)]]
Checkpoint = Annotated[int, Field(ge=0, strict=True)]

LOSSES = (
    *("train_loss", "test_loss", "gap", "train_accuracy", "test_accuracy"),
    *("train_error", "test_error", "clean_test_loss", "validation_loss", "training_time"),
)
"""What a model has at every checkpoint without a measure; an error is 1 less the accuracy."""


class Against(Section):
    """What a claim's number is compared with: another predictor, other models, or both."""

    predictor: str | None = None
    where: Where | None = None

    @model_validator(mode="after")
    def _something(self) -> "Against":
        if self.predictor is None and self.where is None:
            raise ValueError("nothing to compare with; give predictor or where")
        return self


class Decided(Section):
    """A sentence, the models that it is about, and the bounds that a number is expected in."""

    says: Annotated[str, Field(min_length=1)]
    source: str = ""
    why: str = ""
    """What explains that the outcome is another one; the page shows it beside the claim."""
    where: Where = {}
    """Values of columns of the table of models, or of options of their architectures; "none" is
    for models without one. All models unless given."""
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "Decided":
        if self.above is None and self.below is None:
            raise ValueError("no bound; give above, below or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"nothing is above {self.above} and below {self.below}")
        return self


class Claim(Decided):
    """`[[report.claims]]` with a `predictor`: it ranks the gap, or another target, so well.

    The number is a rank correlation of `predictor` with `target`, in the mean over the settings
    of the models that `where` chooses. It is expected above or below a bound, or between two.
    """

    predictor: str
    """A measure, or one of the trivial baselines by its name in the tables."""
    target: str = "gap"
    """gap, test_loss, or a measure."""
    statistic: Statistic = "kendall"
    """partial_kendall: given the training loss."""
    against: Against | None = None
    """The number is then the difference to the same one of these."""
    trend: bool = False
    """The number is then Kendall's tau, over settings, of the correlation with parameters /
    training examples."""
    along: bool = False
    """The number is then the mean over models of tau over each model's own checkpoints."""

    def measures(self) -> list[str]:
        """The measures that it names, as opposed to losses and trivial baselines."""
        names = [self.predictor, self.target, (self.against and self.against.predictor) or ""]
        return [name for name in names if "." in name]

    @model_validator(mode="after")
    def _decidable(self) -> "Claim":
        if self.trend and (self.along or self.against):
            raise ValueError("a trend is of one predictor at the end of training")
        if self.along and (self.statistic != "kendall" or self.target != "gap"):
            raise ValueError("along training there is Kendall's tau with the gap alone")
        return self


class Opposite(Section):
    """What a statement's number is compared with.

    Another quantity of the same model, the same quantity of other models, or both.
    """

    quantity: str | None = None
    where: Where | None = None

    @model_validator(mode="after")
    def _something(self) -> "Opposite":
        if self.quantity is None and self.where is None:
            raise ValueError("nothing to compare with; give quantity or where")
        return self


class Statement(Decided):
    """`[[report.claims]]` with a `quantity`: a size of it, or its course along training.

    Each model that `where` chooses has one number, the `statistic`; what decides is their mean.
    """

    quantity: str
    """A measure, one of `LOSSES`, or another column of numbers of the table of models."""
    statistic: Literal["value", "change", "fall", "first_below", "first_above", "correlation"] = (
        "value"
    )
    """Of one model, from the checkpoint `start` to the checkpoint `end`:

    value: the quantity at `end`; change: that less the one at `start`; fall: the one at `start`
    over that at `end`; first_below and first_above: the first checkpoint at which it has come
    to `level`; correlation: Kendall's tau over the checkpoints with the quantity `other`."""
    level: float | None = None
    other: str | None = None
    changes: bool = False
    """The correlation is then that of the changes from one checkpoint to the next."""
    start: Checkpoint | Literal["fitted"] | None = None
    """A checkpoint; "fitted" is a model's first one without training error; the first one unless
    given."""
    end: Checkpoint | None = None
    """The end of training unless given."""
    against: Opposite | None = None
    compare: Literal["difference", "ratio"] = "difference"
    """With what it is `against`; the mean of ratios and of falls is the geometric one."""
    rises_with: str | None = None
    """A column of numbers of the table of models, or an option of the architectures. What decides
    is then Kendall's tau of it with the models' numbers, in the mean over the seeds."""

    def quantities(self) -> list[str]:
        """All that it names."""
        names = [self.quantity, self.other, self.against and self.against.quantity]
        return [name for name in names if name is not None]

    def measures(self) -> list[str]:
        """The measures among them."""
        return [name for name in self.quantities() if "." in name]

    @property
    def is_along(self) -> bool:
        """Whether it is about checkpoints along training, rather than its end alone."""
        return self.statistic != "value" or self.end is not None

    @property
    def is_ratio(self) -> bool:
        """Whether its numbers are positive and have a geometric mean."""
        return self.statistic == "fall" or (self.against is not None and self.compare == "ratio")

    @model_validator(mode="after")
    def _consistent(self) -> "Statement":
        for wrong, message in self._mistakes():
            if wrong:
                raise ValueError(message)
        return self

    def _mistakes(self) -> list[tuple[bool, str]]:
        first = self.statistic in ("first_below", "first_above")
        correlation = self.statistic == "correlation"
        return [
            (first != (self.level is not None), "level stands with first_below or first_above"),
            (correlation != (self.other is not None), "other stands with correlation"),
            (self.changes and not correlation, "changes stands with correlation alone"),
            (
                self.start is not None and self.statistic == "value",
                "a value has no start; give end, or another statistic",
            ),
            (
                isinstance(self.start, int) and self.end is not None and self.start >= self.end,
                f"start {self.start} is not before end {self.end}",
            ),
            (self.compare == "ratio" and self.against is None, "a ratio to nothing; give against"),
            (
                self.statistic == "fall" and self.against is not None and self.compare != "ratio",
                'falls are compared with compare = "ratio"',
            ),
            (
                self.rises_with is not None
                and self.against is not None
                and self.against.where is not None,
                "rises_with looks at one group of models; drop against.where",
            ),
        ]


KINDS = ("rank", "quantity")
"""What pydantic calls the two kinds of claims, in the places of mistakes."""


def _kind(value: Any) -> str:
    named = value if isinstance(value, dict) else vars(value)
    return "quantity" if "quantity" in named else "rank"


AnyClaim: TypeAlias = Annotated[
    Annotated[Claim, Tag("rank")] | Annotated[Statement, Tag("quantity")], Discriminator(_kind)
]
