"""What a paper claims, written so that a study's numbers can agree or disagree with it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gentheory.study.settings import Section

Statistic = Literal["kendall", "spearman", "pearson", "partial_kendall"]
Where = dict[str, Annotated[list[Any], Field(min_length=1)]]


class Against(Section):
    """What a claim's number is compared with: another predictor, other models, or both."""

    predictor: str | None = None
    where: Where | None = None

    @model_validator(mode="after")
    def _something(self) -> "Against":
        if self.predictor is None and self.where is None:
            raise ValueError("nothing to compare with; give predictor or where")
        return self


class Claim(Section):
    """`[[report.claims]]`: a sentence, and the number that decides on it.

    The number is a rank correlation of `predictor` with `target`, in the mean over the settings
    of the models that `where` chooses. It is expected above or below a bound, or between two.
    """

    says: Annotated[str, Field(min_length=1)]
    source: str = ""
    why: str = ""
    """What explains that the outcome is another one; the page shows it beside the claim."""
    predictor: str
    """A measure, or one of the trivial baselines by its name in the tables."""
    target: str = "gap"
    """gap, test_loss, or a measure."""
    statistic: Statistic = "kendall"
    """partial_kendall: given the training loss."""
    where: Where = {}
    """Values of columns of the table of models; all models unless given."""
    against: Against | None = None
    """The number is then the difference to the same one of these."""
    trend: bool = False
    """The number is then Kendall's tau, over settings, of the correlation with parameters /
    training examples."""
    along: bool = False
    """The number is then the mean over models of tau over each model's own checkpoints."""
    above: float | None = None
    below: float | None = None

    def measures(self) -> list[str]:
        """The measures that it names, as opposed to losses and trivial baselines."""
        names = [self.predictor, self.target, (self.against and self.against.predictor) or ""]
        return [name for name in names if "." in name]

    @model_validator(mode="after")
    def _decidable(self) -> "Claim":
        if self.above is None and self.below is None:
            raise ValueError("no bound; give above, below or both")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"nothing is above {self.above} and below {self.below}")
        if self.trend and (self.along or self.against):
            raise ValueError("a trend is of one predictor at the end of training")
        if self.along and (self.statistic != "kendall" or self.target != "gap"):
            raise ValueError("along training there is Kendall's tau with the gap alone")
        return self
