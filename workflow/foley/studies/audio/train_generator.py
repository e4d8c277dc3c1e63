"""Training an audio generator on the training clips of one split. Its classes are named by their labels: a class
number may shift when a class is added, a label does not."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foley import tables
from foley.audio.store import Progress
from foley.generators.audio.protocol import LabelledClips
from foley.studies.audio.clips import read_waveforms
from foley.tables.audio_studies import AUDIO_PARTITION
from foley.tables.classes import CLASSES
from foley.tables.features import HISTORY
from foley.training.loop import autocast_dtype, choose_device
from foley.training.processes import SharedCheckpoint, current, launch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoleClips:
    """The clips of one role: ids in ascending order, and of each its class number, label and recording."""

    clip_ids: list[str]
    class_ids: list[int]
    labels: list[str]
    recording_ids: list[str]


def labels_of(classes: Path) -> dict[int, str]:
    """Class number -> label.

    Raises:
        ValueError: two classes share a label, so that a generator would take them for one.
    """
    table = tables.read(classes, CLASSES, columns=["class_id", "label"])
    label_of = dict(zip(table["class_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    number_of: dict[str, int] = {}
    for class_id, label in label_of.items():
        if label in number_of:
            raise ValueError(
                f"{classes}: classes {number_of[label]} and {class_id} are both called `{label}`; rename one"
            )
        number_of[label] = class_id
    return label_of


def clips_of_role(partition: Path, classes: Path, role: str = "train") -> RoleClips:
    """The clips that play ``role`` in a split.

    Raises:
        ValueError: there is none, or one is of a class that the class table lacks.
    """
    label_of = labels_of(classes)
    rows = [r for r in tables.read(partition, AUDIO_PARTITION).to_pylist() if r["role"] == role]
    if not rows:
        raise ValueError(f"{partition} has no clips of role {role}; check the split and the class filter")
    lacking = sorted({r["class_id"] for r in rows} - label_of.keys())
    if lacking:
        raise ValueError(
            f"classes {lacking} of {partition} have no row in {classes}; ingest the dataset again"
        )
    rows.sort(key=lambda row: row["clip_id"])
    return RoleClips(
        [r["clip_id"] for r in rows],
        [r["class_id"] for r in rows],
        [label_of[r["class_id"]] for r in rows],
        [r["recording_id"] for r in rows],
    )


def heard_samples(generator: Any) -> int | None:
    """How many samples of a clip a generator on mel images hears; None for other kinds, which may hear all."""
    mel = getattr(generator, "mel", None)
    return None if mel is None else mel.options.samples


def train_generator(
    output: Path,
    history: Path,
    *,
    generator: type,
    options: Any,
    seed: int,
    audio: Sequence[Path],
    partition: Path,
    classes: Path,
    checkpoints: Path | None = None,
    facts: Any = None,
    processes: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> Any:
    """Train a generator on the ``train`` clips of one split, and keep it as a folder that appears whole or not at all.

    The part of the training clips that it hears is held in memory at its sample rate.

    Args:
        output: the model's folder.
        history: the table of how the training went.
        generator: an ``AudioGenerator`` kind with ``save`` and ``load``; its classes are labels.
        options: its ``Options``.
        audio: shards of the dataset's stored clips.
        partition: the split's roles.
        classes: the dataset's class table.
        checkpoints: where an interrupted training leaves off and is continued from.
        facts: what the result depends on beside options, seed and clips, for resuming.
        processes: that train together, each on a device of its own and with the clips in memory; the first writes.
            An interrupted training may go on in more or fewer.

    Returns:
        The trained model.

    Raises:
        ValueError: no training clips, one without audio, or one that the kind cannot use; names it.
        NonFiniteLoss: with the clips of the batch.
        RuntimeError: one of several processes was killed.
    """
    if processes > 1:
        launch(
            train_generator, processes, output, history, generator=generator, options=options, seed=seed,
            audio=audio, partition=partition, classes=classes, checkpoints=checkpoints, facts=facts,
            provenance=provenance,
        )  # fmt: skip
        return generator.load(output)  # type: ignore[attr-defined]
    model = generator(options, seed)
    clips = clips_of_role(partition, classes)
    clip_ids, waveforms = read_waveforms(
        audio, clips.clip_ids, model.sample_rate_hz, max_samples=heard_samples(model), progress=progress
    )
    label_of = dict(zip(clips.clip_ids, clips.labels, strict=True))
    labels = [label_of[clip_id] for clip_id in clip_ids]
    log.info("%d training clips of %d classes", len(clip_ids), len(set(labels)))
    checkpoint = None
    if checkpoints is not None:
        device = choose_device()
        # `precision: auto` is another arithmetic on another sort of device.
        arithmetic = [device.type, str(autocast_dtype("auto", device))]
        own = [generator.__qualname__, dataclasses.asdict(options), seed, model.sample_rate_hz]
        checkpoint = SharedCheckpoint(checkpoints, [facts, own, clip_ids, labels, *arithmetic], *waveforms)
    model.fit(LabelledClips(clip_ids, labels, waveforms, model.sample_rate_hz), checkpoint=checkpoint)
    if current().is_main:
        tables.write(history, HISTORY, model.history.as_rows(), provenance)
        with atomic_folder(output) as folder:
            model.save(folder)
    if checkpoint is not None:
        checkpoint.discard()
    return model


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place when the block ends well, and vanishes when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield temporary
        for part in temporary.rglob("*"):
            if part.is_file():
                with open(part, "rb") as handle:
                    os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            # A folder cannot be renamed onto one that holds files.
            former = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".former", dir=path.parent))
            path.replace(former / path.name)
            temporary.replace(path)
            shutil.rmtree(former)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
