"""Upper references: CLAP, which has heard of the classes, and an oracle, which has heard the classes themselves.

Neither is zero-shot as the study means it: CLAP was trained on hundreds of thousands of captioned clips that may hold
the unseen classes, the oracle on real clips of them. They say how far the other methods could get.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms
from foley.runtime.seeds import derive
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.predictions import CONVENTIONAL
from foley.tables.classes import CLASSES
from foley.tables.scores import PREDICTIONS
from foley.tables.zero_shot import PARTITION

log = logging.getLogger(__name__)

# The sentence of LAION's own zero-shot evaluation (Wu et al. 2023, arXiv 2211.06687).
CLAP_TEMPLATE = "This is a sound of {label}."

# The oracle's candidates: scikit-learn's C, the inverse of the L2 strength, strongest first.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_INNER_FOLDS = 3


@dataclass(frozen=True)
class _Said:
    """Answers for clips [N]: class ids, and how much higher the answer scored than the next class."""

    class_ids: np.ndarray
    margins: np.ndarray

    @classmethod
    def best_of(cls, scores: np.ndarray, classes: np.ndarray) -> _Said:
        """Scores [N, C] of ``classes`` [C]."""
        ordered = np.sort(scores, axis=1)
        margins = ordered[:, -1] - ordered[:, -2] if len(classes) > 1 else np.zeros(len(scores))
        return cls(classes[scores.argmax(axis=1)], margins)


def _write(
    output: Path,
    labels: Mapping[str, str],
    clip_ids: Sequence[str],
    class_ids: np.ndarray,
    said: _Said,
    provenance: Mapping[str, Any] | None,
) -> None:
    n = len(clip_ids)
    table = pa.table(
        {
            **{name: pa.array([value] * n, pa.string()) for name, value in labels.items()},
            "setting": pa.array([CONVENTIONAL] * n, pa.string()),
            "seed": pa.nulls(n, pa.int32()),
            "clip_id": pa.array(clip_ids, pa.string()),
            "role": pa.array(["unseen"] * n, pa.string()),
            "class_id": pa.array(class_ids, pa.int32()),
            "predicted_class_id": pa.array(said.class_ids, pa.int32()),
            "margin": pa.array(said.margins, pa.float32()),
        }
    )
    tables.write(output, PREDICTIONS, table, provenance)


# CLAP


def predict_by_clap(
    output: Path,
    *,
    audio: Sequence[Path],
    classes: Path,
    partition: Path,
    model: str,
    revision: str | None = None,
    template: str | Sequence[str] = CLAP_TEMPLATE,
    labels: Mapping[str, str],
    batch_size: int = 16,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write what CLAP says of each unseen clip: the unseen class whose sentence lies nearest (cosine).

    Args:
        audio: shards of the dataset's stored clips. CLAP hears 48 kHz; what is stored at a lower rate lacks the rest.
        classes: the dataset's class table; underscores in labels are read as spaces.
        template: the sentence, with ``{label}`` in it; of several, a class has the mean of their embeddings.
        model: of CLAP, a local folder or an id of the Hugging Face hub.
        labels: dataset, split, method and variant, as the table names them.
        batch_size: clips in memory at once.

    Raises:
        ValueError: a template lacks ``{label}``, an unseen class has no row, or an unseen clip no audio.
    """
    templates = [template] if isinstance(template, str) else list(template)
    for text in templates or [""]:
        if "{label}" not in text:
            raise ValueError(f"the template {text!r} must contain {{label}}")
    parts = tables.read(partition, PARTITION).to_pylist()
    class_of = {row["clip_id"]: row["class_id"] for row in parts if row["role"] == "unseen"}
    unseen = np.unique(list(class_of.values()))
    label_of = _labels_of(unseen, classes)

    from foley.encoders.clap import ClapEncoder

    encoder = ClapEncoder(model, revision)
    texts = [text.replace("{label}", label) for text in templates for label in label_of]
    wanted = encoder.embed_text(texts).reshape(len(templates), len(unseen), -1).mean(axis=0)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)

    started = time.monotonic()
    clip_ids: list[str] = []
    cosines = []
    for ids, waveforms in progress(_unseen_clips(audio, class_of, encoder.sample_rate_hz, batch_size)):
        clip_ids += ids
        cosines.append(encoder.embed_audio(waveforms, batch_size=batch_size) @ wanted.T)
    lacking = class_of.keys() - set(clip_ids)
    if lacking:
        raise ValueError(
            f"{len(lacking)} unseen clips of {partition} have no audio in {audio[0].parent}, for example "
            f"{min(lacking)}; ingest the dataset again"
        )
    seconds = time.monotonic() - started
    log.info("CLAP: %d clips in %.1f s (%.1f per second)", len(clip_ids), seconds, len(clip_ids) / seconds)
    truth = np.array([class_of[clip_id] for clip_id in clip_ids])
    _write(output, labels, clip_ids, truth, _Said.best_of(np.concatenate(cosines), unseen), provenance)


def _labels_of(class_ids: np.ndarray, classes: Path) -> list[str]:
    table = tables.read(classes, columns=["class_id", "label"])
    label_of = dict(zip(table["class_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    lacking = [int(c) for c in class_ids if c not in label_of]
    if lacking:
        raise ValueError(f"classes {lacking} have no row in {classes}, a table of {CLASSES.name}")
    return [label_of[c].replace("_", " ") for c in class_ids]


def _unseen_clips(
    audio: Sequence[Path], keep: Mapping[str, int], rate_hz: int, batch_size: int
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Clip ids and waveforms at ``rate_hz``, ``batch_size`` at a time whatever the shards hold besides."""
    ids: list[str] = []
    waveforms: list[np.ndarray] = []
    for shard in audio:
        for found, samples, stored_hz in iter_waveforms(shard, keep=keep.keys(), batch_size=batch_size):
            ids += found
            waveforms += [resample(one, stored_hz, rate_hz) for one in samples]
            while len(ids) >= batch_size:
                yield ids[:batch_size], waveforms[:batch_size]
                ids, waveforms = ids[batch_size:], waveforms[batch_size:]
    if ids:
        yield ids, waveforms


# The oracle


def predict_by_oracle(
    output: Path,
    *,
    experiment: Experiment,
    labels: Mapping[str, str],
    folds: int = 5,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write what a classifier trained on real clips of the unseen classes says of them, by cross-validation.

    Multinomial logistic regression on embeddings standardised by their training part. Folds keep recordings whole
    and classes balanced, so each clip is recognised once, by a model that has not heard its recording. The L2
    strength is chosen by cross-validation within each training part. A class with a single recording can't be
    trained on when it is asked for: its clips count as wrong.

    Args:
        labels: dataset, split, method and variant (the embedding's id), as the table names them.
        seed: of the folds; the rows have none, since nothing else is random.

    Raises:
        ValueError: fewer than 2 folds, or all clips of several unseen classes are of one recording.
    """
    if folds < 2:
        raise ValueError(f"the oracle needs at least 2 folds, got {folds}")
    rows = experiment.rows("unseen")
    x, y = experiment.embeddings[rows].astype(np.float64), experiment.class_ids[rows]
    recordings = np.unique(experiment.recordings[rows].astype(str), return_inverse=True)[1]
    _warn_of_single_recordings(y, recordings)
    if len(np.unique(y)) > 1 and not np.ptp(recordings):
        raise ValueError(
            f"all {len(rows)} unseen clips are of the recording {experiment.recordings[rows[0]]!r}, so the oracle has "
            "nothing to train on; correct recording_id in the dataset's metadata, or leave the oracle out"
        )
    started = time.monotonic()
    said = _cross_validate(x, y, recordings, folds, seed)
    log.info(
        "oracle: %d clips of %d classes, %d dimensions, accuracy %.3f, in %.1f s",
        *(len(y), len(np.unique(y)), x.shape[1], np.mean(said.class_ids == y), time.monotonic() - started),
    )
    _write(output, labels, experiment.clip_ids[rows].tolist(), y, said, provenance)


def _warn_of_single_recordings(y: np.ndarray, recordings: np.ndarray) -> None:
    classes = np.unique(y)
    if len(classes) == 1:  # nothing is to be told apart
        return
    single = [int(c) for c in classes if len(np.unique(recordings[y == c])) == 1]
    if len(single) == len(classes):
        log.warning(
            "every unseen class has a single recording, so the oracle can train on none that it is asked for: its "
            "accuracy is 0 and says nothing"
        )
    elif single:
        log.warning(
            "the unseen classes %s have a single recording each: the oracle gets their %d clips wrong",
            single,
            int(np.isin(y, single).sum()),
        )


def _cross_validate(x: np.ndarray, y: np.ndarray, recordings: np.ndarray, folds: int, seed: int) -> _Said:
    said = np.full(len(y), y[0])
    margins = np.zeros(len(y))
    if not np.ptp(y):  # a single class: nothing to train
        return _Said(said, margins)
    chosen = []
    for number, (train, test) in enumerate(_folds(y, recordings, folds, derive(seed, "oracle"))):
        inner_seed = derive(seed, "oracle", number)
        strength = _choose_strength(x[train], y[train], recordings[train], inner_seed)
        scores, classes = _score([strength], x[train], y[train], x[test])
        found = _Said.best_of(scores[0], classes)
        said[test], margins[test] = found.class_ids, found.margins
        chosen.append(strength)
    log.info("oracle: %d folds, C %s", len(chosen), ", ".join(f"{c:g}" for c in chosen))
    return _Said(said, margins)


def _folds(
    y: np.ndarray, recordings: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to train on and to test in; each row is tested once. None where there is a single recording."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.unique(recordings)
    if len(groups) < 2:
        return []
    folds = min(folds, len(groups), int(np.unique(y, return_counts=True)[1].max()))
    if folds > 1:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # Of classes with fewer clips than folds, which is no fault.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            parts = [(train, test) for train, test in splitter.split(y, y, recordings) if len(test)]
        if len(parts) > 1:
            return parts
    # Nothing to balance, for example one clip a class: leave one recording out.
    return [(np.flatnonzero(recordings != g), np.flatnonzero(recordings == g)) for g in groups]


def _choose_strength(x: np.ndarray, y: np.ndarray, recordings: np.ndarray, seed: int) -> float:
    """The strength with most clips right in inner folds; of equals, the strongest."""
    right = np.zeros(len(STRENGTHS))
    for train, test in _folds(y, recordings, _INNER_FOLDS, seed):
        scores, classes = _score(STRENGTHS, x[train], y[train], x[test])
        right += (classes[scores.argmax(axis=2)] == y[test]).sum(axis=1)
    return STRENGTHS[int(right.argmax())]


def _score(
    strengths: Sequence[float], x: np.ndarray, y: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [strengths, N, C] of clips ``asked`` and the classes [C] that were trained on."""
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(y)
    if len(classes) == 1:
        return np.ones((len(strengths), len(asked), 1)), classes
    mean, std = x.mean(axis=0), x.std(axis=0)
    std[std == 0] = 1
    x, asked = (x - mean) / std, (asked - mean) / std
    # From the strongest on, each begins where the one before ended.
    model = LogisticRegression(max_iter=1000, warm_start=True)
    return np.stack([model.set_params(C=c).fit(x, y).predict_proba(asked) for c in strengths]), classes
