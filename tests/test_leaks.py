"""Leaks: a hash of what is heard, on synthetic and on real clips, and what lies on both sides of a fold or a split."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from foley import tables
from foley.audio.acoustic_hash import BITS, NO_HASH, acoustic_hash
from foley.datasets import leaks
from foley.datasets.emodb import EmoDB
from foley.datasets.esc50 import ESC50
from foley.datasets.leaks import NEAR_BITS, LeakError, check_leaks, find_leaks, removed_duplicates
from foley.datasets.protocol import DatasetKind
from foley.datasets.speech_commands import SpeechCommands
from foley.tables.clips import CLIPS, LEAKS, RAW_CLIPS, REJECTED

RATE = 16_000


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


# ---- the hash ----


def sound(seed: int, seconds: float = 2.0) -> np.ndarray:
    """Noise bursts of changing colour: no two alike, and something in every band."""
    numbers = np.random.default_rng(seed)
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(numbers.normal(size=count))
    samples = np.zeros(count)
    for _ in range(6):
        centre, width = numbers.uniform(300, 5000), numbers.uniform(100, 1500)
        band = np.exp(-(((np.fft.rfftfreq(count, 1 / RATE) - centre) / width) ** 2))
        at = np.exp(-(((np.arange(count) / count - numbers.uniform()) / numbers.uniform(0.02, 0.3)) ** 2))
        samples += np.fft.irfft(spectrum * band, count) * at
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def through(samples: np.ndarray, rate: int, stored: int) -> np.ndarray:
    """Resampled to a rate and back."""
    return soxr.resample(soxr.resample(samples, stored, rate), rate, stored)


def coded(samples: np.ndarray, form: str, subtype: str, level: float, stored: int) -> np.ndarray:
    """Through a lossy codec at 44.1 kHz; a level near 1 means few bits."""
    buffer = io.BytesIO()
    high = np.clip(soxr.resample(samples, stored, 44_100), -1, 1)
    soundfile.write(buffer, high, 44_100, format=form, subtype=subtype, compression_level=level)
    buffer.seek(0)
    decoded, rate = soundfile.read(buffer, dtype="float32")
    return soxr.resample(decoded, rate, stored)


def pcm16(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples * 32768) / 32768


# Samples and their rate -> a copy at the same rate.
COPIES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "8 kHz": lambda x, rate: through(x, 8_000, rate),
    "22.05 kHz": lambda x, rate: through(x, 22_050, rate),
    "44.1 kHz": lambda x, rate: through(x, 44_100, rate),
    "48 kHz": lambda x, rate: through(x, 48_000, rate),
    "Ogg": lambda x, rate: coded(x, "OGG", "VORBIS", 0.5, rate),
    "Ogg, few bits": lambda x, rate: coded(x, "OGG", "VORBIS", 0.9, rate),
    "MP3": lambda x, rate: coded(x, "MP3", "MPEG_LAYER_III", 0.5, rate),
    "MP3, few bits": lambda x, rate: coded(x, "MP3", "MPEG_LAYER_III", 0.8, rate),
    "-12 dB": lambda x, rate: pcm16(x * 0.25),
    "dither": lambda x, rate: x + np.random.default_rng(0).normal(size=len(x)) * 1e-4,
    "ten samples late": lambda x, rate: x[10:],
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_copies_differ_in_few_bits(copy: str, seconds: float) -> None:
    found = []
    for seed in range(5):
        samples = sound(seed, seconds)
        other = COPIES[copy](samples, RATE).astype(np.float32)
        found.append(distance(acoustic_hash(samples, RATE), acoustic_hash(other, RATE)))
    assert max(found) <= NEAR_BITS


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.0, 10.0])
def test_different_clips_differ_in_half_of_the_bits(seconds: float) -> None:
    hashes = [acoustic_hash(sound(seed, seconds), RATE) for seed in range(20)]
    found = [distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert np.mean(found) == pytest.approx(BITS / 2, abs=5)
    assert min(found) > NEAR_BITS


def test_padding_makes_no_two_clips_alike() -> None:
    """Many clips of ESC-50 are a short sound and then digital silence."""
    hashes = []
    for seed in range(20):
        padded = np.zeros(5 * RATE, np.float32)
        padded[:RATE] = sound(seed, 1.0)
        hashes.append(acoustic_hash(padded, RATE))
        noisy = padded + np.random.default_rng(seed).normal(size=len(padded)) * 1e-5
        assert distance(hashes[-1], acoustic_hash(noisy.astype(np.float32), RATE)) <= NEAR_BITS // 2
    assert NO_HASH not in hashes
    assert min(distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]) > NEAR_BITS


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(RATE),
        np.ones(RATE),
        np.full(1, 0.5),
        0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE),
        np.random.default_rng(0).uniform(-0.5, 0.5, RATE) / 32768,
    ],
    ids=["silence", "constant", "one sample", "tone", "below one step"],
)
def test_a_clip_with_nothing_to_tell_it_by_has_no_hash(samples: np.ndarray) -> None:
    assert acoustic_hash(samples.astype(np.float32), RATE) == NO_HASH


@pytest.mark.parametrize("rate", [500, 8_000, 11_025, 44_100, 96_000])
def test_any_rate_and_length_has_a_hash_of_256_bits(rate: int) -> None:
    numbers = np.random.default_rng(1)
    for count in (2, 80, rate // 10, 3 * rate + 1):
        assert len(acoustic_hash(numbers.uniform(-0.5, 0.5, count).astype(np.float32), rate)) == BITS // 8


def test_ten_minutes_are_hashed() -> None:
    long = np.tile(sound(1, 20.0), 30)
    assert distance(acoustic_hash(long, RATE), acoustic_hash(long * np.float32(0.5), RATE)) <= 8


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [(np.zeros(0), RATE, "shape"), (np.zeros((2, 9)), RATE, "shape"), (np.ones(9), 100, "500 Hz")],
)
def test_what_is_no_clip_is_refused(samples: np.ndarray, rate: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        acoustic_hash(samples.astype(np.float32), rate)


# ---- what is found ----


def random_hash(seed: int) -> bytes:
    return np.random.default_rng([7, seed]).bytes(BITS // 8)


def flipped(digest: bytes, bits: Sequence[int]) -> bytes:
    changed = np.unpackbits(np.frombuffer(digest, np.uint8))
    changed[list(bits)] ^= 1
    return np.packbits(changed).tobytes()


def clip(clip_id: str, **changes: Any) -> dict[str, Any]:
    """A row of CLIPS that shares nothing with others."""
    row = {
        "dataset": "mine",
        "clip_id": clip_id,
        "class_id": 0,
        "label": "dog",
        "labels": ["dog"],
        "recording_id": f"recording of {clip_id}",
        "duration_s": 1.0,
        "sample_rate_hz": RATE,
        "sha256": f"samples of {clip_id}",
        "source_sha256": f"file of {clip_id}",
        "acoustic_hash": random_hash(sum(clip_id.encode())),
        "source": f"{clip_id}.wav",
        "shard": 0,
    }
    return row | changes


def clip_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in CLIPS.columns} for row in rows], schema=CLIPS.schema
    )


def summary(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((r["what"], r["between"], tuple(r["sides"]), tuple(r["clip_ids"])) for r in rows)


CLEAN = [
    clip("a", fold=1, split="train"),
    clip("b", fold=2, split="test"),
    clip("c", fold=10, split="validation"),
]


def test_no_leak_no_row() -> None:
    assert find_leaks(clip_table(CLEAN)) == []
    assert find_leaks(clip_table([])) == []
    assert find_leaks(clip_table(CLEAN[:1])) == []


@pytest.mark.parametrize(
    ("shared", "what"),
    [
        ({"sha256": "same"}, "audio"),
        ({"source_sha256": "same"}, "audio"),
        ({"acoustic_hash": random_hash(1)}, "near_audio"),
        ({"recording_id": "r1"}, "recording"),
        ({"speaker_id": "s1"}, "speaker"),
    ],
)
def test_each_kind_of_leak_is_found_between_folds_and_between_splits(
    shared: dict[str, Any], what: str
) -> None:
    sides = {"a": (1, "train"), "b": (2, "test"), "c": (10, "validation")}
    rows = [clip(name, fold=fold, split=split, **shared) for name, (fold, split) in sides.items()]
    found = find_leaks(clip_table(rows), [(what, "split")])
    assert summary(found) == [
        (what, "fold", ("1", "2", "10"), ("a", "b", "c")),
        (what, "split", ("train", "validation", "test"), ("a", "b", "c")),
    ]
    assert {row["between"]: row["claimed"] for row in found} == {"fold": False, "split": True}
    assert all(row["clips"] == 3 and row["dataset"] == "mine" for row in found)

    inside = [row | {"fold": 1, "split": "train"} for row in rows]
    assert find_leaks(clip_table(inside)) == []
    unplaced = [row | {"fold": None, "split": None} for row in rows[:2]] + rows[2:]
    assert find_leaks(clip_table(unplaced)) == []


def test_a_copy_within_a_fold_is_no_part_of_a_near_leak() -> None:
    base = random_hash(5)
    rows = [
        clip("a", fold=1, acoustic_hash=base),
        clip("b", fold=1, acoustic_hash=flipped(base, range(40))),  # near a alone: 80 bits from c
        clip("c", fold=2, acoustic_hash=flipped(base, range(100, 140))),
    ]
    assert summary(find_leaks(clip_table(rows))) == [("near_audio", "fold", ("1", "2"), ("a", "c"))]


def test_equal_clips_on_two_sides_are_each_near_a_third() -> None:
    base = random_hash(5)
    rows = [
        clip("a", fold=1, sha256="same", acoustic_hash=base),
        clip("b", fold=2, sha256="same", acoustic_hash=base),
        clip("c", fold=1, acoustic_hash=flipped(base, [3])),
    ]
    assert summary(find_leaks(clip_table(rows))) == [
        ("audio", "fold", ("1", "2"), ("a", "b")),
        ("near_audio", "fold", ("1", "2"), ("a", "b", "c")),
    ]


@pytest.mark.parametrize(("bits", "found"), [(NEAR_BITS, True), (NEAR_BITS + 1, False)])
def test_near_means_at_most_so_many_bits(bits: int, found: bool) -> None:
    rows = [
        clip("a", fold=1, acoustic_hash=random_hash(5)),
        clip("b", fold=2, acoustic_hash=flipped(random_hash(5), range(bits))),
    ]
    assert bool(find_leaks(clip_table(rows))) == found


@pytest.mark.parametrize(
    ("lengths", "found"), [((1, 1.09), True), ((1, 1.2), False), ((60, 61), True), ((60, 62), False)]
)
def test_near_clips_are_of_similar_length(lengths: tuple[float, float], found: bool) -> None:
    for one, other in (lengths, lengths[::-1]):
        rows = [
            clip("a", fold=1, duration_s=one, acoustic_hash=random_hash(5)),
            clip("b", fold=2, duration_s=other, acoustic_hash=random_hash(5)),
        ]
        assert bool(find_leaks(clip_table(rows))) == found


def test_clips_without_a_hash_are_near_nothing() -> None:
    rows = [clip(name, fold=fold, acoustic_hash=digest) for name, fold, digest in (
        ("a", 1, NO_HASH), ("b", 2, NO_HASH), ("c", 1, None), ("d", 2, None))]  # fmt: skip
    assert find_leaks(clip_table(rows)) == []


def test_a_long_row_names_clips_of_every_side() -> None:
    rows = [clip(f"a{n:03d}", fold=1, speaker_id="s") for n in range(100)] + [
        clip("z", fold=2, speaker_id="s")
    ]
    (row,) = find_leaks(clip_table(rows))
    assert row["clips"] == 101 and len(row["clip_ids"]) == leaks.CLIP_IDS and "z" in row["clip_ids"]


@pytest.mark.parametrize("claim", [("audio", "folds"), ("microphone", "fold"), ("audio",)])
def test_a_claim_that_is_none_is_refused(claim: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="claims are pairs"):
        find_leaks(clip_table(CLEAN), [claim])


def test_who_claims_no_equal_audio_claims_no_copies() -> None:
    rows = [clip(n, fold=f, acoustic_hash=random_hash(1)) for n, f in (("a", 1), ("b", 2))]
    (row,) = find_leaks(clip_table(rows), [("audio", "fold")])
    assert (row["what"], row["claimed"]) == ("near_audio", True)


# A few families of near hashes, so that groups chain, and clips without a place.
FAMILIES = st.tuples(st.integers(0, 3), st.lists(st.integers(0, BITS - 1), max_size=70, unique=True))
ROWS = st.lists(
    st.tuples(
        FAMILIES,
        st.sampled_from([0.5, 0.58, 0.7, 30.0, 30.5]),
        st.sampled_from([None, 1, 2, 3]),
        st.sampled_from([None, "train", "test"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(rows=ROWS)
def test_near_leaks_are_those_of_all_pairs(rows: list[tuple[Any, ...]]) -> None:
    """Against the definition, pair by pair, with blocks so small that many are passed by."""
    clips = []
    for number, ((family, bits), seconds, fold, split, copy) in enumerate(rows):
        row = clip(f"{number:02d}", duration_s=seconds, fold=fold, split=split)
        row["acoustic_hash"] = NO_HASH if family == 3 else flipped(random_hash(family), bits)
        if copy == 0 and family < 2:  # an exact copy of all others like it
            row |= {"sha256": f"same {family}", "acoustic_hash": random_hash(family), "duration_s": 0.5}
        clips.append(row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "_BLOCK", 4)
        found = {
            between: sorted(
                tuple(row["clip_ids"])
                for row in find_leaks(clip_table(clips))
                if (row["what"], row["between"]) == ("near_audio", between)
            )
            for between in ("fold", "split")
        }
    for between in ("fold", "split"):
        assert found[between] == sorted(_by_all_pairs(clips, between))


def _by_all_pairs(clips: Sequence[dict[str, Any]], between: str) -> list[tuple[str, ...]]:
    """Connected groups: exact copies are one item, items are joined where two of their clips are near across sides."""
    item = {row["clip_id"]: row["sha256"] for row in clips}
    group = {name: {name} for name in item.values()}
    joined = set()
    for one in clips:
        for other in clips:
            longer = max(one["duration_s"], other["duration_s"])
            near = (
                item[one["clip_id"]] != item[other["clip_id"]]
                and NO_HASH not in (one["acoustic_hash"], other["acoustic_hash"])
                and distance(one["acoustic_hash"], other["acoustic_hash"]) <= NEAR_BITS
                and abs(one["duration_s"] - other["duration_s"]) <= max(0.1, 0.02 * longer)
                and None not in (one[between], other[between])
                and one[between] != other[between]
            )
            if near:
                merged = group[item[one["clip_id"]]] | group[item[other["clip_id"]]]
                joined |= {item[one["clip_id"]], item[other["clip_id"]]}
                for name in merged:
                    group[name] = merged
    groups = {tuple(sorted(group[name])) for name in joined}
    return [
        tuple(r["clip_id"] for r in clips if item[r["clip_id"]] in names and r[between] is not None)[:20]
        for names in groups
    ]


# ---- the table, the error, the log ----


@dataclass
class Files:
    clips: Path
    rejected: Path
    manifest: Path
    output: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Two clips of one recording in two folds, and duplicates that were refused."""
    found = Files(*(tmp_path / f"{name}.parquet" for name in ("clips", "rejected", "manifest", "leaks")))
    rows = [clip("a", fold=1, recording_id="r"), clip("b", fold=2, recording_id="r"), clip("c", fold=2)]
    tables.write(found.clips, CLIPS, rows)
    refused = [("d", "duplicate", "the same samples as a"), ("e", "duplicate", "the same samples as a"),
               ("f", "silent", "the same samples as a"), ("g", "duplicate", "the same samples as nobody")]  # fmt: skip
    tables.write(
        found.rejected,
        REJECTED,
        [{"dataset": "mine", "clip_id": n, "source": n, "reason": r, "detail": d} for n, r, d in refused],
    )
    folds = {"a": 1, "b": 2, "c": 2, "d": 2, "e": 1, "f": 2, "g": 2}
    tables.write(
        found.manifest,
        RAW_CLIPS,
        [
            {
                "clip_id": n,
                "source": n,
                "label": "dog",
                "recording_id": n,
                "shard": 0,
                "fold": fold,
                "split": None,
            }
            for n, fold in folds.items()
        ],
    )
    return found


def check(files: Files, claims: Sequence[tuple[str, str]], policy: str = "fail") -> list[dict[str, Any]]:
    check_leaks(
        files.output,
        dataset="mine",
        clips=files.clips,
        rejected=files.rejected,
        manifest=files.manifest,
        claims=claims,
        policy=policy,
        provenance={"rule": "check_leaks"},
    )
    return tables.read(files.output, LEAKS).to_pylist()


def test_a_broken_promise_is_an_error_that_says_what_to_do(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LeakError) as caught:
        check(files, [("recording", "fold"), ("speaker", "fold")])
    for words in (
        "dataset mine",
        "1 recording across folds",
        "recording r in folds 1, 2: 2 clips, a, b",
        "leaks: report",
    ):
        assert words in str(caught.value)
    assert "recording r in folds 1, 2" in caplog.text
    (row,) = tables.read(files.output, LEAKS).to_pylist()  # there although the job failed
    assert (row["what"], row["key"], row["claimed"]) == ("recording", "r", True)


def test_it_is_written_down_where_the_config_says_so(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (row,) = check(files, [("recording", "fold")], policy="report")
    assert row["claimed"] and "recording r in folds 1, 2" in caplog.text
    assert "1 duplicates across folds were refused before" in caplog.text


def test_what_nobody_promised_is_no_error(files: Files) -> None:
    (row,) = check(files, [("recording", "split"), ("audio", "fold")])
    assert not row["claimed"]
    assert tables.provenance(files.output)["rule"] == "check_leaks"


def test_the_policy_is_one_of_two(files: Files) -> None:
    with pytest.raises(ValueError, match=r"datasets\.mine\.leaks must be fail or report"):
        check(files, [], policy="ignore")


def test_refused_duplicates_are_counted_where_they_crossed(files: Files) -> None:
    counts = removed_duplicates(tables.read(files.rejected), tables.read(files.manifest))
    assert counts == {"fold": 1, "split": 0}  # d; e lies in the fold of a, f was silent, g's clip is unknown


# ---- real recordings ----


@dataclass
class Real:
    """Clips of a real dataset as CLIPS, and their samples."""

    table: pa.Table
    samples: dict[str, np.ndarray]
    rate: int
    claims: frozenset[tuple[str, str]]

    @property
    def hashes(self) -> dict[str, bytes]:
        return dict(
            zip(self.table["clip_id"].to_pylist(), self.table["acoustic_hash"].to_pylist(), strict=True)
        )


def real(kind: DatasetKind, root: Path) -> Real:
    raw = [row for row in kind.scan(root) if (root / row.source).is_file()]

    def take(row: Any) -> tuple[tuple[np.ndarray, int], dict[str, Any]]:
        samples, rate = soundfile.read(root / row.source, dtype="float32")
        return (samples, rate), clip(
            row.clip_id,
            label=row.label,
            labels=[row.label],
            fold=row.fold,
            split=row.split,
            recording_id=row.recording_id,
            speaker_id=row.speaker_id,
            duration_s=len(samples) / rate,
            sha256=hashlib.sha256(samples.tobytes()).hexdigest(),
            acoustic_hash=acoustic_hash(samples, rate),
        )

    with ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(take, raw))
    return Real(
        clip_table([row for _, row in taken]),
        {row["clip_id"]: samples for (samples, _), row in taken},
        taken[0][0][1],
        kind.claims,
    )


@pytest.fixture(scope="module")
def recordings(shared_data: Path) -> dict[str, Real]:
    kinds: dict[str, DatasetKind] = {"esc50": ESC50(), "speech_commands": SpeechCommands(), "emodb": EmoDB()}
    return {name: real(kind, shared_data / name) for name, kind in kinds.items()}


def test_copies_of_real_clips_are_near(recordings: dict[str, Real]) -> None:
    found: dict[str, list[int]] = {}
    for data in recordings.values():
        ids, hashes = sorted(data.samples), data.hashes
        for clip_id in ids[:: len(ids) // 4]:
            for name, copy in COPIES.items():
                other = copy(data.samples[clip_id], data.rate).astype(np.float32)
                found.setdefault(name, []).append(distance(hashes[clip_id], acoustic_hash(other, data.rate)))
    assert {name: max(bits) for name, bits in found.items() if max(bits) > NEAR_BITS} == {}
    assert np.median(np.concatenate(list(found.values()))) <= 10


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """The largest normalised cross-correlation, over all lags."""
    size = 2 * max(len(one), len(other))
    product = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    return float(np.abs(product).max() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_different_real_clips_are_not_near(recordings: dict[str, Real]) -> None:
    """All three million pairs within the three datasets. What is near are copies, and all of those."""
    near: dict[str, set[frozenset[str]]] = {}
    for name, data in recordings.items():
        ids = list(data.hashes)
        signs = (
            2.0
            * np.unpackbits(np.frombuffer(b"".join(data.hashes.values()), np.uint8).reshape(-1, 32), axis=1)
            - 1
        )
        apart = (BITS - signs.astype(np.float32) @ signs.T.astype(np.float32)) / 2
        upper = np.triu_indices(len(ids), 1)
        assert np.mean(apart[upper]) == pytest.approx(BITS / 2, abs=2)
        assert np.std(apart[upper]) < 10
        assert np.mean(apart[upper] <= 80) < 3e-5
        near[name] = {
            frozenset((ids[i], ids[j])) for i, j in zip(*upper, strict=True) if apart[i, j] <= NEAR_BITS
        }
    # Two uploads of one vacuum cleaner, and two of one fire.
    assert near["esc50"] == {
        frozenset(("5-212054-A-36", "5-212059-A-36")),
        frozenset(("2-28314-A-12", "2-30322-A-12")),
    }
    samples = recordings["esc50"].samples
    assert all(correlation(*(samples[clip_id] for clip_id in sorted(pair))) > 0.6 for pair in near["esc50"])
    assert near["emodb"] == set()
    # The extract of Speech Commands holds some utterances twice.
    samples = recordings["speech_commands"].samples
    assert near["speech_commands"] and all(
        np.array_equal(*(samples[clip_id] for clip_id in pair)) for pair in near["speech_commands"]
    )


def test_the_folds_of_esc50_share_four_uploads_and_no_copies(recordings: dict[str, Real]) -> None:
    """Folds were meant to keep an upload together. Four were cut into two classes, and lie in two folds each."""
    data = recordings["esc50"]
    assert data.table.num_rows == 2000
    found = find_leaks(data.table, data.claims)
    assert {(row["what"], row["between"], len(row["sides"])) for row in found} == {("recording", "fold", 2)}
    classes = dict(zip(*(data.table[name].to_pylist() for name in ("clip_id", "label")), strict=True))
    assert len(found) == 4 and all(len({classes[c] for c in row["clip_ids"]}) == 2 for row in found)


def test_random_folds_of_esc50_part_copies_and_recordings(recordings: dict[str, Real]) -> None:
    data = recordings["esc50"]
    folds = pa.array(np.random.default_rng(1).permutation(data.table.num_rows) % 5, pa.int32())
    shuffled = data.table.set_column(data.table.schema.get_field_index("fold"), "fold", folds)
    found = find_leaks(shuffled)
    assert sum(row["what"] == "recording" for row in found) > 200
    copies = {tuple(row["clip_ids"]) for row in found if row["what"] == "near_audio"}
    assert copies == {("2-28314-A-12", "2-30322-A-12"), ("5-212054-A-36", "5-212059-A-36")}


def test_speakers_stay_on_one_side(recordings: dict[str, Real]) -> None:
    for name, between in (("emodb", "fold"), ("speech_commands", "split")):
        data = recordings[name]
        assert ("speaker", between) in data.claims and data.table["speaker_id"].null_count == 0
        assert find_leaks(data.table, data.claims) == []


def test_clips_split_at_random_share_their_speakers(recordings: dict[str, Real]) -> None:
    """The extract of Speech Commands is of its test split alone, so a promise is broken here by hand."""
    table = recordings["speech_commands"].table
    halves = pa.array([("train", "test")[n % 2] for n in range(table.num_rows)])
    halved = table.set_column(table.schema.get_field_index("split"), "split", halves)
    found = find_leaks(halved, [("speaker", "split")])
    speakers = set(table["speaker_id"].to_pylist())
    leaked = {row["key"] for row in found if row["what"] == "speaker" and row["claimed"]}
    assert leaked <= speakers and len(leaked) > len(speakers) / 2
    assert any(row["what"] == "audio" for row in found)  # utterances that the extract holds twice
