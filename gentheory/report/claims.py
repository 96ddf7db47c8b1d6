"""Whether a study's numbers agree with what was claimed: one row a claim, with its interval."""

from typing import Any

import pandas as pd

from gentheory.report import rank_claims, statements
from gentheory.report.population import Population
from gentheory.report.ranking import Resampling, interval_columns
from gentheory.report.verdicts import expected, verdict
from gentheory.study.claim import Statement
from gentheory.study.tables import Tables

_COLUMNS = [
    *("says", "source", "why", "number", "expected", "value", "value.low", "value.high"),
    *("settings", "models", "repeats", "note", "verdict"),
]


def claims(tables: Tables, population: Population, resampling: Resampling) -> pd.DataFrame:
    """One row a claim of the study, in its order.

    `says`, `source`, `why`, `number` (in words, what decides), `expected`, `value` with
    `value.low` and `value.high`, `settings` and `models`, how many it rests on, `repeats`, the
    seeds that the bootstrap of a statement draws (0 for a rank correlation, whose bootstrap draws
    hyper-parameter points), `note`, and `verdict`: "agrees" where the whole 95 % interval is as
    expected, "disagrees" where none of it is, else "undecided", as where a number has no interval;
    "no number" where there is none. Raises `InputError` for a predictor, a quantity or a column
    that the tables do not have, and for a checkpoint that no model has.
    """
    rows: list[dict[str, Any]] = []
    if tables.claims:
        drawn = rank_claims.Drawn.of(population, resampling)
        for claim in tables.claims:
            if isinstance(claim, Statement):
                found = statements.decide(claim, tables, population, resampling)
                number = statements.number(claim)
            else:
                found = rank_claims.decide(claim, tables, population, drawn, resampling)
                number = rank_claims.number(claim)
            cells = interval_columns("value", found.interval)
            rows.append(
                {
                    **{name: getattr(claim, name) for name in ("says", "source", "why")},
                    "number": number,
                    "expected": expected(claim),
                    **cells,
                    **{name: getattr(found, name) for name in ("settings", "models", "repeats")},
                    "note": found.note,
                    "verdict": verdict(cells, claim),
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)
