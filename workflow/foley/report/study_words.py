"""How the page speaks of each study, and which of its methods and splits are read apart from the others."""

from __future__ import annotations

from dataclasses import dataclass

ZERO_SHOT, INTERPOLATION, DIFFUSION, FOUNDATION = "zero_shot", "interpolation", "diffusion", "foundation"
DIVERSE = "diverse_embeddings"
SPEECH = "speech"
# Arms of `interpolation`, as the page orders them: the baseline, the controls, then generated clips.
ARMS = ("real", "duplicates", "classic", "interpolated", "sampled")
# The mix that validation clips chose in each split of `foundation`.
CHOSEN = "chosen"


@dataclass(frozen=True)
class StudyWords:
    """Words of one study.

    Attributes:
        subject: What helps or hurts, in the verdict's first sentence.
        listed: What the verdict lists.
        trained: What was trained once, so that its spread is in no interval.
        accuracy, macro: Titles of the tables of accuracy.
        caption: Of the figures of accuracy.
        overview: What the table of all datasets shows.
        judged: The methods that the verdict is about; none named = all. Where a study tries many things, this is what
            clips that are not tested chose among them.
        by_source: Whether its methods are mixes, of which the page also shows what each source's clips do as they are.
        baseline: What the judged methods are held against.
        controls: Methods whose gains a reader needs for comparison, though nothing in them was generated; also those
            called ``classic-<name>``.
        rival: The control that the judged methods are to stand in for, so that the verdict holds them against it, too.
        quantity: What a gain is a change of.
        needs_p: Whether a gain also needs a small corrected p. Where splits test other people or other classes, the
            bootstrap draws clips and knows nothing of how those vary.
        leaky: Splits that put clips of one recording into training and test; no mean is over them.
        same_classes: Whether all splits test the same classes, so that a class has a mean over splits.
        measures_accuracy: Whether methods are compared by accuracy; else a section of the study's own shows them.
    """

    subject: str = "Synthetic data"
    listed: str = "Every generator"
    trained: str = "embedding network"
    accuracy: str = "Conventional setting: unseen classes only, accuracy in %"
    macro: str = "Conventional setting, every class weighted equally, accuracy in %"
    caption: str = "Accuracy on unseen classes, in %"
    overview: str = "accuracy on unseen classes, in %"
    judged: tuple[str, ...] = ()
    by_source: bool = False
    baseline: str = "real"
    controls: tuple[str, ...] = ()
    rival: str = ""
    quantity: str = "accuracy"
    needs_p: bool = False
    leaky: frozenset[str] = frozenset()
    same_classes: bool = False
    measures_accuracy: bool = True

    def is_control(self, method: str) -> bool:
        return method in self.controls or ("classic" in self.controls and method.startswith("classic-"))


_WORDS = {
    ZERO_SHOT: StudyWords(
        listed="Every generator whose samples go to the baseline's kind of classifier",
        needs_p=True,
    ),
    INTERPOLATION: StudyWords(
        subject="Augmenting with generated clips",
        listed="Every arm",
        trained="generator and the classifiers of each arm",
        accuracy="Accuracy on real test clips, in %",
        macro="Accuracy on real test clips, every class weighted equally, in %",
        caption="Accuracy on real test clips, in %",
        overview="accuracy on real test clips, in %",
        controls=("duplicates", "classic"),
        leaky=frozenset({"random"}),
        same_classes=True,
    ),
    FOUNDATION: StudyWords(
        subject="Training on the synthetic clips that validation clips chose, beside real ones,",
        listed="Every recogniser and part of the real clips",
        trained="generators and the recognisers of each mix",
        accuracy="Accuracy on real test clips, in %",
        macro="Accuracy on real test clips, every class weighted equally, in %",
        caption="Accuracy on real test clips, in %",
        overview="accuracy on real test clips, in %",
        judged=(CHOSEN,),
        by_source=True,
        leaky=frozenset({"random"}),
        same_classes=True,
    ),
    DIFFUSION: StudyWords(leaky=frozenset({"random"}), same_classes=True, measures_accuracy=False),
    DIVERSE: StudyWords(
        overview="accuracy on test clips, in %",
        same_classes=True,
        measures_accuracy=False,
    ),
    SPEECH: StudyWords(
        subject="Mixing generated backgrounds into training speech",
        listed="Every arm",
        trained="generators and the recognisers of each arm",
        overview="accuracy of speech, in %",
        baseline="none",
        controls=("real", "classic"),
        rival="real",
        quantity="accuracy in noise that was held out (mean over all ratios)",
        needs_p=True,
        same_classes=True,
        measures_accuracy=False,
    ),
}
_OTHERS = StudyWords()


def words(study: str) -> StudyWords:
    """The study's own words, or those of `zero_shot`."""
    return _WORDS.get(study, _OTHERS)


def is_leaky(study: str, split: str) -> bool:
    """Whether recordings of the split lie on both sides of it."""
    return split in words(study).leaky
