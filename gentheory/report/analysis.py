"""All numbers of a report, computed once."""

from dataclasses import dataclass

import pandas as pd

from gentheory.report.along import Along, along
from gentheory.report.axes import Environments, environments, granulated
from gentheory.report.choices import choices, rivalry
from gentheory.report.claims import claims
from gentheory.report.design import design
from gentheory.report.ladder import ladder
from gentheory.report.outcomes import exclusions, misses, settings, warnings
from gentheory.report.pooled import pooled
from gentheory.report.population import Population, population
from gentheory.report.ranking import Resampling, correlations, criteria
from gentheory.report.ratios import ratios, trends
from gentheory.report.regimes import regimes
from gentheory.report.shift import Shift, shift
from gentheory.report.sizes import sizes
from gentheory.study.tables import Tables


@dataclass(frozen=True)
class Analysis:
    """The tables of a report; the function of the same name says what each of them holds."""

    population: Population
    settings: pd.DataFrame
    regimes: pd.DataFrame
    correlations: pd.DataFrame
    criteria: pd.DataFrame
    choices: pd.DataFrame
    rivalry: pd.DataFrame
    sizes: pd.DataFrame
    granulated: pd.DataFrame
    environments: Environments
    pooled: pd.DataFrame
    ratios: pd.DataFrame
    trends: pd.DataFrame
    exclusions: pd.DataFrame
    misses: pd.DataFrame
    warnings: pd.DataFrame
    claims: pd.DataFrame
    ladder: pd.DataFrame
    along: Along | None
    """What the checkpoints along training say; None for a study without any."""
    shift: Shift | None = None
    """Where the data have an environment kept out of training."""

    @property
    def main(self) -> str | None:
        """The predicted gap that the findings are about, if the study measured one."""
        predicted = self.sizes["predictor"]
        return None if predicted.empty else predicted.iloc[0]


def analyse(tables: Tables, *, num_resamples: int = 1000, seed: int = 0) -> Analysis:
    """Rank, size and count everything; `num_resamples` and `seed` are those of the bootstrap.

    Raises `InputError` for tables without a model, a measure or a column that a report needs.
    """
    models = population(tables)
    resampling: Resampling = {"num_resamples": num_resamples, "seed": seed}
    taus = correlations(models, resampling)
    grid, by_ratio = design(models), ratios(models, taus)
    return Analysis(
        models,
        settings(models),
        regimes(models, tables.describe),
        taus,
        criteria(models, resampling),
        choices(models, tables.costs, resampling),
        rivalry(models, resampling),
        sizes(models, resampling),
        granulated(grid, resampling),
        environments(grid, resampling),
        pooled(grid, resampling),
        by_ratio,
        trends(by_ratio, resampling),
        exclusions(models),
        misses(tables),
        warnings(tables),
        claims(tables, models, resampling),
        ladder(models, resampling),
        along(tables, models, resampling),
        shift(models, resampling),
    )
