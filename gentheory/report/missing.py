"""What a page says is missing, and what may mislead."""

import pandas as pd

from gentheory.report.grids import Grid, word_grid


def missing_grids(
    exclusions: pd.DataFrame, misses: pd.DataFrame, warnings: pd.DataFrame
) -> list[tuple[str, str, Grid | None]]:
    """Title, what an empty table means, and the table of what the numbers of a page do not see."""
    kinds = (
        (
            *("left-out", "Models left out of the rankings", "No model was left out."),
            *(exclusions, "They are in no correlation, ratio or median of this page."),
        ),
        (
            *("misses", "Measures without a number", "Every measure has a number for every model."),
            *(misses, "Refused: does not apply or would not fit. Failed: it broke."),
        ),
        (
            *("warnings", "Warnings that numbers carry", "No number carries a warning."),
            *(warnings, "These numbers are in the rankings and may mislead."),
        ),
    )
    return [
        (title, nothing, word_grid(name, title, caption, table))
        for name, title, nothing, table, caption in kinds
    ]
