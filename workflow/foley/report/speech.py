"""The study of speech on the page: what backgrounds in training gain, curves over ratios, and what was kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foley import tables
from foley.report.comparison_figures import Curve, CurvePanel, learning_curves_svgs
from foley.report.foundation import prompts_table
from foley.report.scores import REFERENCES, Score, ScoreBook, System
from foley.report.sections import Panel, Section, marked_up, near
from foley.report.study_words import SPEECH
from foley.report.values import Cell, PValue, Row, ValueTable, interval_text, percent, points, where
from foley.report.who_wins import pair_of
from foley.studies.speech.names import NONE, REAL, Condition, is_classic, parse_variant, variant
from foley.tables.speech import BACKGROUNDS, KEPT_APART

# What curves are drawn of: metric, and its name on the page.
DRAWN = (("accuracy", "accuracy"), ("uar", "UAR"))
MEASURED = (*DRAWN, ("f1_weighted", "weighted F1"))
# Where clean speech stands on the axis of ratios: beyond the highest.
CLEAN_GAP_DB = 7.5


@dataclass(frozen=True)
class SpeechTables:
    """What the section reads beside the scores.

    kept_apart: KEPT_APART of each dataset. backgrounds: BACKGROUNDS of recordings and of each source.
    prompts: prompt id -> PROMPTS and REJECTED_PROMPTS of the generated backgrounds.
    """

    kept_apart: Sequence[Path] = ()
    backgrounds: Sequence[Path] = ()
    prompts: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)


def speech(book: ScoreBook, files: SpeechTables, labels: Mapping[str, Mapping[int, str]]) -> Section | None:
    """A panel per dataset; None where the study did not run."""
    datasets = book.datasets(SPEECH) if SPEECH in book.studies() else []
    if not datasets:
        return None
    return Section(
        "speech",
        "Speech in noise",
        "Speech",
        "Recognition of real speech, clean and with backgrounds that were held out, against the signal-to-noise ratio, "
        "with 95 % bands over speakers (over recordings, where fewer than eight speakers are tested), for the "
        "trainings and the held-out backgrounds at hand. Lines are what training clips went through: nothing (none), "
        "recorded backgrounds (real), classic augmentation, or generated backgrounds. All have the same clips, "
        "optimiser steps and seeds, and those that mix have equally many backgrounds of each class. UAR is the mean "
        "recall of the classes.",
        tuple(_Panel(book, dataset, labels.get(dataset, {})).build(files) for dataset in datasets),
        folded=False,
    )


class _Panel:
    """What the section says of one dataset."""

    def __init__(self, book: ScoreBook, dataset: str, labels: Mapping[int, str]) -> None:
        self.book, self.dataset, self.labels = book, dataset, labels
        systems = [s for s in book.systems(SPEECH, dataset, ["accuracy"]) if s.method not in REFERENCES]
        arms = dict.fromkeys(system.method for system in systems)
        order = {NONE: 0, REAL: 1}
        self.arms = sorted(arms, key=lambda arm: order.get(arm, 2 if is_classic(arm) else 3))
        known = [parse_variant(system.variant) for system in systems]
        self.recognisers = sorted({recogniser for recogniser, _ in known})
        mixed = {condition.background for _, condition in known} - {None}
        # Recordings first: they are what a user will meet.
        self.backgrounds = sorted(map(str, mixed), key=lambda name: (name != REAL, self._place(name)))
        self.ratios = sorted({c.snr_db for _, c in known if c.snr_db is not None})
        self.splits = book.splits_shown(SPEECH, dataset, ["accuracy"])

    def _place(self, background: str) -> int:
        return self.arms.index(background) if background in self.arms else len(self.arms)

    def build(self, files: SpeechTables) -> Panel:
        sentences, figures, found, details = [], [], [], []
        for split in self.splits:
            for recogniser in self.recognisers:
                sentences += self._answers(split, recogniser)
                figures += self._figures(split, recogniser)
                found.append(self._summary(split, recogniser))
                details += self._curve_tables(split, recogniser)
                details.append(self._classes(split, recogniser))
        details += [_made_of(files.backgrounds), _apart(self.dataset, files.kept_apart)]
        details += [prompts_table(name, *its) for name, its in files.prompts.items()]
        return Panel(
            SPEECH, self.dataset, tuple(sentences), marked_up(figures), tuple(t for t in found if t.rows),
            tuple(t for t in details if t.rows),
        )  # fmt: skip

    # Sentences

    def _answers(self, split: str, recogniser: str) -> list[tuple[str, str]]:
        """Whether generated backgrounds do what recorded ones do, in noise of each kind."""
        said = []
        for background in self.backgrounds:
            name = variant(recogniser, Condition(background))
            parts = []
            for arm in self.arms:
                if arm in (NONE, REAL):
                    continue
                over_none = pair_of(self.book, SPEECH, self.dataset, split, System(arm, name), NONE)
                to_real = pair_of(self.book, SPEECH, self.dataset, split, System(arm, name), REAL)
                if over_none is None:
                    continue
                told = f"{arm} {over_none.text} over none"
                if to_real is not None:
                    span = interval_text(to_real.difference, points)
                    told += f", {to_real.text} {span} to real" + (" (noise)" if to_real.noise else "")
                parts.append(told)
            base = self._score(split, System(NONE, name), "accuracy")
            real = pair_of(self.book, SPEECH, self.dataset, split, System(REAL, name), NONE)
            if base is None or not parts:
                continue
            start = f"{percent(base.value)} % with none"
            if real is not None:
                start += f", real {real.text} over it" + (" (noise)" if real.noise else "")
            of = f"{near(recogniser, split, self.splits)}, in {_heard(background)}"
            said.append((of, f"accuracy, mean over ratios: {start}; {'; '.join(parts)}."))
        return said

    # Curves

    def _figures(self, split: str, recogniser: str) -> list[str]:
        colours = self.book.colours(SPEECH, self.dataset)
        axis = {ratio: f"{ratio:g}" for ratio in self.ratios}
        clean = self.ratios[-1] + CLEAN_GAP_DB
        axis[clean] = "clean"
        chance = self.book.get(SPEECH, self.dataset, split, System("chance", ""), "accuracy")
        panels = []
        for metric, shown in DRAWN:
            for background in self.backgrounds:
                curves = []
                for arm in self.arms:
                    scores = [*self._curve(split, recogniser, background, arm, metric)]
                    places = [*self.ratios, clean]
                    at = [
                        (x, s.value, s.low, s.high)
                        for x, s in zip(places, scores, strict=True)
                        if s is not None
                    ]
                    if at:
                        curves.append(Curve(arm, colours.get(arm, len(colours)), tuple(at)))
                parts = [f"{shown} in {_heard(background)}"]
                parts += [recogniser] if len(self.recognisers) > 1 else []
                title = near(", ".join(parts), split, self.splits)
                # Chance in a grey that no arm has.
                lines = (("chance", 7, chance.value),) if chance is not None else ()
                panels.append(CurvePanel(title, tuple(curves), lines))
        return learning_curves_svgs(panels, "signal-to-noise ratio, dB", axis)

    def _curve(
        self, split: str, recogniser: str, background: str, arm: str, metric: str
    ) -> list[Score | None]:
        """Scores at every ratio, then clean."""
        conditions = [*(Condition(background, ratio) for ratio in self.ratios), Condition()]
        return [self._score(split, System(arm, variant(recogniser, c)), metric) for c in conditions]

    def _curve_tables(self, split: str, recogniser: str) -> list[ValueTable]:
        columns = (*((f"{ratio:g} dB", "") for ratio in self.ratios), ("clean", ""))
        found = []
        for metric, shown in MEASURED:
            for background in self.backgrounds:
                rows = [
                    Row((arm,), tuple(map(Cell, self._curve(split, recogniser, background, arm, metric))))
                    for arm in self.arms
                ]
                title = f"{shown} in %, in {_heard(background)}: {recogniser}, {self._where(split)}"
                found.append(ValueTable(title, ("training clips",), columns, tuple(rows)))
        return found

    # Tables

    def _summary(self, split: str, recogniser: str) -> ValueTable:
        """Every arm in clean speech and in the mean over the ratios of each background."""
        rows = []
        for condition in (*map(Condition, self.backgrounds), Condition()):
            for arm in self.arms:
                system = System(arm, variant(recogniser, condition))
                cells = [
                    Cell(self._score(split, system, metric), self._spread(split, system, metric))
                    for metric, _ in MEASURED
                ]
                for other in (NONE, REAL):
                    pair = pair_of(self.book, SPEECH, self.dataset, split, system, other)
                    empty = (Cell(None), PValue(None, share=False))
                    cells += empty if pair is None or other == arm else pair.cells
                heard = "clean" if condition.background is None else _heard(condition.background)
                rows.append(Row((arm, heard), tuple(cells), reference=arm == NONE))
        columns = tuple((f"{shown}, %", "") for _, shown in MEASURED)
        columns += tuple(
            part
            for other in (NONE, REAL)
            for part in ((f"accuracy over {other}, points", ""), ("corrected p", ""))
        )
        title = f"Clean, and mean over the ratios of each background: {recogniser}, {self._where(split)}"
        return ValueTable(title, ("training clips", "test clips"), columns, tuple(rows))

    def _classes(self, split: str, recogniser: str) -> ValueTable:
        """Recall of each word or emotion, clean and in the first background."""
        conditions = [Condition(self.backgrounds[0]), Condition()]
        columns = tuple(
            (arm, "clean" if c.background is None else f"in {_heard(c.background)}")
            for c in conditions
            for arm in self.arms
        )
        rows = []
        for class_id in self.book.class_ids(SPEECH, self.dataset, split):
            scores = [
                self.book.get(
                    SPEECH, self.dataset, split, System(arm, variant(recogniser, c)), "recall", class_id
                )
                for c in conditions
                for arm in self.arms
            ]
            clips = next((str(score.n) for score in scores if score is not None), "")
            rows.append(Row((self.labels.get(class_id, str(class_id)), clips), tuple(map(Cell, scores))))
        title = f"Recall of each class in %: {recogniser}, {self._where(split)}"
        return ValueTable(title, ("class", "test clips"), columns, tuple(rows))

    # Values

    def _score(self, split: str, system: System, metric: str) -> Score | None:
        return self.book.get(SPEECH, self.dataset, split, system, metric)

    def _spread(self, split: str, system: System, metric: str) -> float | None:
        score = self._score(split, system, f"{metric}_seed_std")
        return None if score is None else score.value

    def _where(self, split: str) -> str:
        return where(split, self.book.split_count(SPEECH, self.dataset))


def _heard(background: str) -> str:
    return "held-out recordings" if background == REAL else f"held-out clips of {background}"


def _made_of(backgrounds: Sequence[Path]) -> ValueTable:
    rows = []
    for path in backgrounds:
        clips: list[dict[str, Any]] = tables.read(path, BACKGROUNDS).to_pylist()
        cells: list[str] = []
        for role in ("train", "test"):
            own = [clip for clip in clips if clip["role"] == role]
            cells += [str(len(own)), f"{sum(clip['duration_s'] for clip in own):,.0f} s"]
        kinds = sorted({clip["label"] for clip in clips})
        rows.append(Row((clips[0]["background"], *cells, ", ".join(kinds)), ()))
    head = (
        "backgrounds",
        "clips in training",
        "their length",
        "clips in the test",
        "their length",
        "classes",
    )
    return ValueTable("Backgrounds", head, (), tuple(rows))


def _apart(dataset: str, kept_apart: Sequence[Path]) -> ValueTable:
    rows = []
    if kept_apart:
        for row in tables.read(list(kept_apart), KEPT_APART).to_pylist():
            if row["dataset"] == dataset:
                counts = tuple(str(row[key]) for key in ("train", "validation", "test", "shared"))
                what = f"{row['what']} ({row['background']})" if row["background"] else row["what"]
                rows.append(Row((what, row["split"], *counts), ()))
    head = ("kept apart", "split", "in training", "in validation", "in the test", "in two of them")
    return ValueTable("What was kept apart, counted where it was used", head, (), tuple(rows))
