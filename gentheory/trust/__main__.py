"""Write thresholds: python -m gentheory.trust FIT CHECK [--out FILE], folders of two studies."""

from pathlib import Path
from typing import Annotated

import typer

from gentheory.study.files import full_disk
from gentheory.study.store import Store
from gentheory.study.tables import read_tables
from gentheory.trust.fitting import fit
from gentheory.trust.record import SHIPPED

Folder = Annotated[Path, typer.Argument(help="Folder of a study, as `gentheory run` printed it.")]


def main(
    study: Folder,
    check: Folder,
    out: Annotated[Path | None, typer.Option(help="File; the package's own unless given.")] = None,
) -> None:
    """Fit the thresholds of `gentheory diagnose` on one study, check them on another."""
    found = fit(*(read_tables(Store.open(folder)) for folder in (study, check)))
    out = Path(__file__).with_name(SHIPPED) if out is None else out
    with full_disk(out):
        out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for indicator in found.indicators:
        told = "counts" if indicator.informative else "does not count"
        typer.echo(
            f"{indicator.name}: {told}; threshold {indicator.threshold}; "
            f"AUROC {indicator.fit.auroc}, on the check {indicator.check.auroc}"
        )
    for rule in found.rules:
        typer.echo(
            f"{len(rule.indicators)} indicators: {rule.verdicts[0]} above {rule.threshold}, "
            f"else {rule.verdicts[1]}; "
            f"right {rule.fit.right}, on the check {rule.check.right}"
        )


if __name__ == "__main__":
    typer.run(main)
