"""What trained recognisers say of test clips: clean, and with held-out backgrounds at exact signal-to-noise ratios.

Of a recogniser, a test clip gets the same stretch of the same background at every ratio, for every arm and seed, so
that all differences are paired. Recognisers that hear another rate or length get other stretches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from foley import tables
from foley.audio.store import Progress
from foley.studies.audio.splits import TEST, classes_in
from foley.studies.audio.training import predict, prediction_rows, real_clips
from foley.studies.speech.backgrounds import read_recordings
from foley.studies.speech.names import Condition, variant
from foley.studies.speech.speakers import read_speech_partition
from foley.studies.speech.train import MixedIn, fill_window
from foley.tables.scores import PREDICTIONS

if TYPE_CHECKING:
    from torch import Tensor

    from foley.augment.background import Background
    from foley.classifiers.audio_protocol import AudioClassifier, LabelledClips

log = logging.getLogger(__name__)

# Clips that are mixed and recognised together.
AT_ONCE = 256


def recognise_speech(
    clean: Path,
    noisy: Path,
    *,
    models: Path,
    kind: Callable[..., AudioClassifier],
    options: Any,
    seeds: Sequence[int],
    audio: Sequence[Path],
    partition: Path,
    backgrounds: Mapping[str, MixedIn],
    ratios_db: Sequence[float],
    draw_seed: int,
    labels: Mapping[str, str],
    recogniser: str,
    silent_speech: str = "refuse",
    threads: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write what each seed's recogniser says of the test clips, clean and with each background at each ratio
    (PREDICTIONS; the variant names the condition).

    In memory are the test clips, and one kind of background.

    Args:
        models: folder of the recognisers' weights.
        audio: clip-store shards of the dataset of speech.
        partition: SPEECH_PARTITION of the split.
        backgrounds: what is mixed in, by name.
        draw_seed: of the backgrounds and their stretches.
        labels: dataset, split and method (the arm), as the tables name them.
        silent_speech: whether a silent test clip is refused, or stays as it is.

    Raises:
        ValueError: a speaker, a recording or a background on both sides; a silent clip; no weights of a seed.
    """
    import torch

    from foley.augment.background import Background, BackgroundOptions
    from foley.studies.audio.recognise import load_classifiers

    torch.set_num_threads(threads)
    rows = read_speech_partition(partition, labels["split"])
    class_ids = classes_in(rows)
    trained = dict(zip(seeds, load_classifiers(models, kind, options, len(class_ids), seeds), strict=True))
    first = next(iter(trained.values())).trained
    rate, window = first.sample_rate_hz, first.window_samples
    tested = real_clips(TEST, audio, rows, rate, window, progress)
    assert tested is not None  # a partition without test clips is never written
    tested = fill_window(tested, window)
    quiet = {**labels, "variant": variant(recogniser, Condition())}
    tables.write(clean, PREDICTIONS, predict(trained, tested, class_ids, quiet), provenance)
    parts: list[pa.Table] = []
    for name, mixed_in in backgrounds.items():
        names, recordings = read_recordings(mixed_in.table, TEST, mixed_in.audio, rate, progress)
        for ratio in ratios_db:
            exact = BackgroundOptions(
                snr_min_db=ratio, snr_max_db=ratio, silent_speech=silent_speech  # type: ignore[arg-type]
            )  # fmt: skip
            scores = _scores_in_noise(trained, tested, Background(exact, recordings, rate, names), draw_seed)
            noisy_labels = {**labels, "variant": variant(recogniser, Condition(name, ratio))}
            parts.append(
                prediction_rows(scores, tested.clip_ids, tested.labels.numpy(), class_ids, noisy_labels, TEST)
            )
        log.info("%s: %d clips at %d ratios", name, len(tested), len(ratios_db))
    tables.write(noisy, PREDICTIONS, pa.concat_tables(parts), provenance)


def _scores_in_noise(
    trained: Mapping[int, AudioClassifier], clips: LabelledClips, background: Background, seed: int
) -> dict[int, Tensor]:
    """Scores [N, C] by seed; every seed hears the same mixtures."""
    import torch

    from foley.augment.protocol import Draws

    parts: dict[int, list[Tensor]] = {number: [] for number in trained}
    for start in range(0, len(clips), AT_ONCE):
        ids = clips.clip_ids[start : start + AT_ONCE]
        draws = Draws(seed, ids, [0] * len(ids))
        heard = background.change_waveforms(clips.waveforms[start : start + AT_ONCE], draws)
        for number, model in trained.items():
            parts[number].append(model.score(heard, clips.sample_rate_hz))
    return {number: torch.cat(scores) for number, scores in parts.items()}
