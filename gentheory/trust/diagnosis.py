"""Whether TIC can be trusted for one net: its indicators, each against its threshold."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gentheory.checkpoint import Checkpoint
from gentheory.measures import Results, measure
from gentheory.report.measured import Frame
from gentheory.risk import EmpiricalRisk
from gentheory.trust.fitting import passes, share_passed
from gentheory.trust.indicators import INDICATORS, OPTIONS, names_of
from gentheory.trust.record import Judged, Outcome, Rule, Thresholds, Verdict, read


@dataclass(frozen=True)
class Answer:
    """One indicator of the net."""

    name: str
    value: float
    threshold: float
    high: bool
    """Whether values above the threshold pass."""
    passed: bool | None
    """None where the value is not known."""
    counts: bool
    """Whether the verdict rests on it."""
    weight: float
    note: str
    """Why it is unknown or does not count; "" where it counts."""


@dataclass(frozen=True)
class Diagnosis:
    """The verdict with everything behind it."""

    verdict: Verdict
    tic: str
    """The rung of TIC that was computed."""
    answers: tuple[Answer, ...]
    share: float
    """Of the indicators that count, by weight, those that pass."""
    rule: Rule
    thresholds: Thresholds
    results: Results
    loss: str

    @property
    def sentences(self) -> list[str]:
        """The verdict in words, how often it was right, and what else there is to know."""
        return [
            self._verdict(),
            *(_worth(self.thresholds, self.rule, self.share) if self.verdict != "unknown" else []),
            *self._reservations(),
        ]

    def frame(self) -> Frame:
        """The same as a table of words: what stands above the numbers on a page or a screen."""
        return Frame(
            "gentheory diagnose",
            f"TIC: {self.verdict}",
            self.sentences,
            ("indicator", "value", "for TIC", "passed", "weight", "AUROC", "check", "note"),
            [
                _row(answer, judged)
                for answer, judged in zip(self.answers, self.thresholds.indicators, strict=True)
            ],
        )

    def to_json(self) -> str:
        """Strict JSON: verdict, indicators, rule with its worth, sources and all estimates."""
        answers = [dataclasses.asdict(answer) for answer in self.answers]
        for answer in answers:
            answer |= {"value": _number(answer["value"]), "threshold": _number(answer["threshold"])}
        found: dict[str, Any] = {
            "verdict": self.verdict,
            "sentences": self.sentences,
            "tic": self.tic,
            "share_passed": _number(self.share),
            "indicators": answers,
            "rule": self.rule.model_dump(),
            "thresholds": self.thresholds.model_dump(exclude={"rules"}),
            "measures": json.loads(self.results.to_json()),
        }
        return json.dumps(found, ensure_ascii=False, allow_nan=False)

    def _verdict(self) -> str:
        counted = [answer for answer in self.answers if answer.counts]
        if not counted:
            return "Whether TIC can be trusted is unknown: no indicator that counts is known."
        passed = sum(answer.passed is True for answer in counted)
        return (
            f"Verdict: {self.verdict}. {passed} of {len(counted)} indicators speak for TIC, "
            f"{100 * self.share:.0f} % by weight; more than "
            f"{100 * self.rule.threshold.number:.0f} % have to."
            + " That proved not to be enough on the check."
            * (self.verdict == "undecided")
        )

    def _reservations(self) -> list[str]:
        found: list[str] = []
        if self.tic == "tic.kfac":
            found.append(
                "TIC is that of Kronecker factors, as the exact one would not fit; the thresholds "
                "were fitted with the exact one."
            )
        if self.loss != self.thresholds.loss:
            found.append(f"The thresholds were fitted with {self.thresholds.loss}, not this loss.")
        counted = {answer.name for answer in self.answers if answer.counts}
        lost = [name for name in self.rule.indicators if name not in counted]
        if lost and counted:
            found.append(f"The numbers above are of verdicts that also know {', '.join(lost)}.")
        return found


def diagnose(
    subject: EmpiricalRisk | Checkpoint,
    *,
    thresholds: Thresholds | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Measure the net's indicators and judge them by thresholds, the package's unless given.

    What is not known, such as the distance from an initialization that nobody kept, does not
    count; the rule is the one fitted for what is known. `seed` and `progress` as in `measure`,
    which raises what it raises: a measure that does not apply is an unknown indicator.
    """
    thresholds = read() if thresholds is None else thresholds
    checkpoint = subject if isinstance(subject, Checkpoint) else Checkpoint(subject)
    tic, names = names_of(checkpoint)
    results = measure(checkpoint, names, seed=seed, options=OPTIONS, progress=progress)
    loss = checkpoint.risk.loss.name
    values, notes = _read(tic, results, None if loss == thresholds.loss else thresholds.loss)
    rule, counted = _rule_for(thresholds, values)
    share = share_passed(counted, values)
    above, below = rule.verdicts
    verdict = above if share > rule.threshold.number else below
    return Diagnosis(
        "unknown" if math.isnan(share) else verdict,
        tic,
        tuple(
            _answer(judged, values[judged.name], notes[judged.name], judged in counted)
            for judged in thresholds.indicators
        ),
        share,
        rule,
        thresholds,
        results,
        loss,
    )


def _read(tic: str, results: Results, other: str | None) -> tuple[dict[str, float], dict[str, str]]:
    """Every indicator's value, and why it is not known; `other` names the thresholds' loss."""
    values: dict[str, float] = {}
    notes: dict[str, str] = {}
    for indicator in INDICATORS:
        value, note = indicator.value(tic, results)
        if indicator.of_loss and other is not None:
            value, note = math.nan, f"its threshold is for {other}"
        values[indicator.name], notes[indicator.name] = value, note
    return values, notes


def _rule_for(thresholds: Thresholds, values: dict[str, float]) -> tuple[Rule, list[Judged]]:
    """The first rule all whose indicators are known, else the one of the most; those that count."""
    known = {name for name, value in values.items() if math.isfinite(value)}
    rule = next(
        (rule for rule in thresholds.rules if known.issuperset(rule.indicators)),
        max(thresholds.rules, key=lambda rule: len(known.intersection(rule.indicators))),
    )
    counted = known.intersection(rule.indicators)
    return rule, [judged for judged in thresholds.indicators if judged.name in counted]


def _answer(judged: Judged, value: float, note: str, counts: bool) -> Answer:
    known = math.isfinite(value)
    if known and not counts:
        auroc = judged.fit.auroc
        note = "of no rule here" if judged.informative else f"does not tell: AUROC {auroc}"
    return Answer(
        judged.name,
        value,
        judged.threshold.number,
        judged.high,
        passes(judged, value) if known else None,
        counts,
        judged.weight,
        note,
    )


def _row(answer: Answer, judged: Judged) -> list[str]:
    passed = {None: "unknown", True: "yes", False: "no"}[answer.passed]
    return [
        answer.name,
        f"{answer.value:.3g}" if math.isfinite(answer.value) else "",
        f"{'>' if answer.high else '<'} {answer.threshold:.3g}",
        passed if answer.counts or answer.passed is None else f"({passed})",
        f"{answer.weight:.2f}" if answer.counts else "",
        f"{judged.fit.auroc.number:.2f}",
        f"{judged.check.auroc.number:.2f}",
        answer.note,
    ]


def _worth(thresholds: Thresholds, rule: Rule, share: float) -> list[str]:
    """What became of the models of the check that were judged so."""
    above = share > rule.threshold.number
    outcome: Outcome = rule.check
    tier = outcome.passed if above else outcome.failed
    source, off = thresholds.check, "" if above else "not "
    return [
        f"Checked on the study {source.study} ({source.models} models, none of them used for the "
        f"thresholds), this cut was right for {_percent(outcome.right)} of the models. Of the "
        f"{tier.count} that were judged like this one TIC was {off}within a factor of "
        f"{thresholds.factor:g} of the measured gap for {_percent(tier.right)}; its rank "
        f"correlation with the gap within a setting was {tier.tau}."
    ]


def _percent(figure: Any) -> str:
    """A share in percent, with its interval."""
    if figure.value is None:
        return "an unknown share"
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.0f} %"
    return f"{100 * figure.value:.0f} % [{100 * figure.low:.0f}, {100 * figure.high:.0f}]"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
