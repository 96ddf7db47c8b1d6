"""When a model has been trained enough: rules that look at it after each epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class CurvatureRule:
    """Stop where a series of curvatures, one an epoch, shoots up, and go back to before it did.

    With λ̄ₑ the mean of `window` values around epoch e, stop once λ̄ₑ > ratio · λ̄ of `lag` epochs
    before, and return to that earlier epoch, which must not lie before `start`  (RobustDARTS,
    Zela et al. 2020). The mean around e is known window // 2 epochs after e.
    """

    ratio: float = 1.3
    window: int = 5
    lag: int = 4
    start: int = 10

    @property
    def epochs_back(self) -> int:
        """How far it goes back."""
        return self.window // 2 + self.lag

    @property
    def earliest(self) -> int:
        """The first epoch after which it can stop."""
        return max(self.window + self.lag, self.start + self.epochs_back)

    def stops(self, series: Sequence[float]) -> bool:
        """Whether to stop, having seen this value after each epoch from the first on.

        A mean before the rise that is not above 0 has no ratio to it: then it goes on.
        """
        if len(series) < self.earliest:
            return False
        now = fmean(series[-self.window :])
        before = fmean(series[-self.window - self.lag : -self.lag])
        return before > 0 and now > self.ratio * before
