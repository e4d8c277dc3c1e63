"""The verdict: does synthetic data help, by how much, and how sure is that?

Every method is judged, in the order of the configuration; none is picked by its result on test data, and what was
tuned on test data (the protocol `published`) is left out. Splits that leak recordings never decide where there are
others: what they would have said stands beside the verdict.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from foley.report.mixes import as_they_are, tuned_on_test
from foley.report.scores import ALPHA, MEAN, REFERENCES, Score, ScoreBook, System
from foley.report.study_words import is_leaky, words

GAIN, DIFFERENCE = "gain_over_", "difference_to_"
# Of a gain of something else than accuracy the metric's name begins with that.
OTHER_QUANTITIES = {"uar": "UAR (mean recall of the classes)"}
SPELT_OUT = 4  # comparisons that a reader takes in as sentences; more become a count and a table


@dataclass(frozen=True)
class Finding:
    """One method against its baseline on one dataset."""

    split: str
    system: System
    baseline: str
    gain: Score
    before: Score | None
    after: Score | None
    leaky: tuple[Finding, ...] = ()  # the same on splits that leak recordings
    rival: str = ""  # what it is to stand in for
    to_rival: Score | None = None  # difference to that
    p: float | None = None  # of the gain, where it takes one beside the interval
    quantity: str = ""  # what the gain is one of, where not accuracy
    rival_p: float | None = None  # of the difference to its rival, where it takes one

    @property
    def outcome(self) -> str:
        """``helps`` or ``hurts`` where the interval excludes 0 and p, if there is one, is small; else ``unclear``."""
        if self.gain.low is None or self.gain.high is None or (self.p is not None and self.p > ALPHA):
            return "unclear"
        return "helps" if self.gain.low > 0 else "hurts" if self.gain.high < 0 else "unclear"

    @property
    def rivalry(self) -> str:
        """``more`` or ``less`` than its rival where the interval of the difference excludes 0 and p, if there is one,
        is small, else ``unclear``; empty where it has none."""
        if self.to_rival is None or self.to_rival.low is None or self.to_rival.high is None:
            return ""
        if self.rival_p is not None and self.rival_p > ALPHA:
            return "unclear"
        return "more" if self.to_rival.low > 0 else "less" if self.to_rival.high < 0 else "unclear"


@dataclass(frozen=True)
class Verdict:
    """All findings on one dataset of one study, with the sentence that sums them up."""

    study: str
    dataset: str
    findings: tuple[Finding, ...]
    summary: str
    controls: tuple[Finding, ...] = ()  # what the study gains without any generator
    sources: tuple[Finding, ...] = ()  # each source's clips as they are, though nothing chose them
    leaky: bool = False  # whether nothing but splits that leak recordings was measured
    rivalry: str = ""  # how the findings compare with their rival, in a sentence

    @property
    def spelt_out(self) -> bool:
        return len(self.findings) <= SPELT_OUT

    @property
    def sources_spelt_out(self) -> bool:
        return len(self.sources) <= 2 * SPELT_OUT


def verdicts(book: ScoreBook) -> list[Verdict]:
    """One verdict per study and dataset that has gains over a baseline.

    The mean over splits counts where the study stored one; else every split is a finding of its own.
    """
    found = []
    for study in book.studies():
        for dataset in book.datasets(study):
            judged, measured = words(study).judged, _findings(book, study, dataset)
            every = [f for f in measured if not judged or f.system.method in judged]
            controls = [f for f in every if words(study).is_control(f.system.method)]
            findings = [f for f in every if f not in controls]
            if findings:
                leaky = all(is_leaky(study, finding.split) for finding in findings)
                summary = _summary(findings)
                plain = as_they_are(f.system.method for f in measured) if words(study).by_source else []
                sources = tuple(f for f in measured if f.system.method in plain)
                against = _rivalry(findings)
                found.append(
                    Verdict(
                        study, dataset, tuple(findings), summary, tuple(controls), sources, leaky, against
                    )
                )
    return found


def _findings(book: ScoreBook, study: str, dataset: str) -> list[Finding]:
    findings = []
    metrics = book.metrics(study, dataset)
    others = [m for m in metrics if m.startswith(tuple(f"{name}_{GAIN}" for name in OTHER_QUANTITIES))]
    for metric in others or [m for m in metrics if m.startswith(GAIN)]:
        baseline = metric.partition(GAIN)[2]
        for system in book.systems(study, dataset, [metric]):
            if system.method == baseline or system.method in REFERENCES or tuned_on_test(system.variant):
                continue
            splits = [s for s in book.splits(study, dataset) if book.get(study, dataset, s, system, metric)]
            clean = [MEAN] if MEAN in splits else book.leak_free(study, splits)
            leaky = [
                _finding(book, study, dataset, split, system, metric, ())
                for split in splits
                if is_leaky(study, split)
            ]
            if not clean:
                findings += leaky
            findings += [_finding(book, study, dataset, s, system, metric, tuple(leaky)) for s in clean]
    return findings


def _finding(
    book: ScoreBook,
    study: str,
    dataset: str,
    split: str,
    system: System,
    metric: str,
    leaky: tuple[Finding, ...],
) -> Finding:
    prefix, _, baseline = metric.partition(GAIN)
    quantity = prefix.removesuffix("_") or "accuracy"
    gain = book.get(study, dataset, split, system, metric)
    assert gain is not None  # splits without one were passed by
    before = book.get(study, dataset, split, System(baseline, system.variant), quantity)
    after = book.get(study, dataset, split, system, quantity)
    its = words(study)
    rival = its.rival if not its.is_control(system.method) else ""
    to_rival = book.get(study, dataset, split, system, f"{prefix}{DIFFERENCE}{rival}") if rival else None

    def p_to(other: str) -> float | None:
        found = book.get(study, dataset, split, system, f"p_{prefix}{DIFFERENCE}{other}")
        return found.value if its.needs_p and found is not None else None

    return Finding(
        split, system, baseline, gain, before, after, leaky, rival, to_rival, p_to(baseline),
        its.quantity.replace("accuracy", OTHER_QUANTITIES[quantity]) if prefix else "",
        p_to(rival) if rival else None,
    )  # fmt: skip


def _summary(findings: list[Finding]) -> str:
    """How the comparisons came out, in a clause: `helps in 1 of 2 comparisons, no clear effect in 1`."""
    count, total = Counter(f.outcome for f in findings), len(findings)
    if total == 1:
        return {"helps": "helps", "hurts": "hurts", "unclear": "has no clear effect"}[findings[0].outcome]
    words = {"helps": "helps in", "hurts": "hurts in", "unclear": "has no clear effect in"}
    parts = [f"{words[outcome]} {count[outcome]}" for outcome in words if count[outcome]]
    if len(parts) == 1:
        return f"{words[findings[0].outcome]} {'both' if total == 2 else f'all {total}'} comparisons"
    parts[0] += f" of {total} comparisons"
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _rivalry(findings: list[Finding]) -> str:
    """Whether what was generated does as well as what it stands in for: a sentence, empty where nothing says."""
    judged = [finding for finding in findings if finding.rivalry]
    if not judged:
        return ""
    count, total, rival = Counter(f.rivalry for f in judged), len(judged), judged[0].rival
    told = {"more": f"better than {rival} ones", "less": f"worse than {rival} ones"}
    whole = "" if total == 1 else " in both comparisons" if total == 2 else f" in all {total} comparisons"
    if count["unclear"] == total:
        return f"No difference to {rival} ones was shown{whole}: see how wide the intervals are."
    if len(count) == 1:
        return f"They do {told[judged[0].rivalry]}{whole}."
    parts = [f"{told[kind]} in {count[kind]}" for kind in told if count[kind]]
    said = f"They do {' and '.join(parts)} of {total} comparisons"
    return f"{said}; in {count['unclear']} no difference was shown." if count["unclear"] else f"{said}."
