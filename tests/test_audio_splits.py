"""Splits of the audio studies: names, roles, whole recordings, and what is refused."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foley import tables
from foley.studies.audio.splits import (
    OfficialParts,
    Splits,
    classes_in,
    clips_in,
    draw_folds,
    is_fold,
    leaking_recordings,
    official_parts,
    partition_clips,
    read_partition,
    split_clips,
    split_names,
    whole_groups,
)
from foley.tables.audio_studies import AUDIO_PARTITION
from foley.tables.clips import CLIPS

LABELS = ("bell", "dog", "rain")


def clip(number: int, label: str, recording: str, **more: Any) -> dict[str, Any]:
    return {
        "dataset": "toy", "clip_id": f"clip-{number:04d}", "class_id": LABELS.index(label) * 10, "label": label,
        "labels": [label], "recording_id": recording, "fold": None, "split": None, "duration_s": 1.0,
        "sample_rate_hz": 16_000, "sha256": str(number),
    } | more  # fmt: skip


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=CLIPS.schema)


def folded(folds: Sequence[int], per_fold: int = 2) -> list[dict[str, Any]]:
    """Clips of each class in each fold, one recording each."""
    cells = [(fold, label, take) for fold in folds for label in LABELS for take in range(per_fold)]
    return [
        clip(number, label, f"{label}-{fold}-{take}", fold=fold)
        for number, (fold, label, take) in enumerate(cells)
    ]


def drawn(recordings: int, takes: int = 2) -> list[dict[str, Any]]:
    """Clips of a dataset without official parts."""
    cells = [(label, r, t) for label in LABELS for r in range(recordings) for t in range(takes)]
    return [clip(number, label, f"{label}-{r}") for number, (label, r, _) in enumerate(cells)]


def roles(rows: Sequence[dict[str, Any]], split: str, **changed: Any) -> dict[str, str]:
    return {row["clip_id"]: row["role"] for row in partition_clips(table(rows), split, Splits(**changed))}


def test_names_follow_from_what_is_official() -> None:
    assert split_names(official_parts(table(folded([1, 2, 3]))), Splits()) == [
        "fold1",
        "fold2",
        "fold3",
        "random",
    ]
    halves = [clip(n, LABELS[n % 3], str(n), split=("train", "test")[n // 3]) for n in range(6)]
    assert split_names(official_parts(table(halves)), Splits()) == ["official", "random"]
    # One fold, or training clips alone, part nothing.
    assert official_parts(table(folded([4]))) == OfficialParts()
    assert official_parts(table([row | {"split": "train"} for row in halves])) == OfficialParts()
    assert split_names(OfficialParts(), Splits(folds=2)) == ["fold1", "fold2", "random"]
    # A plan that knows the parts says the same as the clips do.
    assert split_names(OfficialParts(folds=(1, 2, 3)), Splits(folds=9)) == [
        "fold1",
        "fold2",
        "fold3",
        "random",
    ]
    assert [is_fold(name) for name in ("fold12", "random", "official", "fold", "folds1")] == [
        True,
        *[False] * 4,
    ]


@pytest.mark.parametrize(("folds", "split", "validation"), [
    ([1, 2, 3, 4, 5], "fold2", 3), ([1, 2, 3, 4, 5], "fold5", 1), ([2, 4, 7], "fold4", 7), ([2, 4, 7], "fold7", 2),
])  # fmt: skip
def test_official_folds_test_and_validate_in_turn(folds: list[int], split: str, validation: int) -> None:
    rows = folded(folds)
    found = roles(rows, split)
    tested = int(split.removeprefix("fold"))
    for row in rows:
        expected = "test" if row["fold"] == tested else "validation" if row["fold"] == validation else "train"
        assert found[row["clip_id"]] == expected


def test_two_official_folds_validate_on_a_part_of_the_training_fold() -> None:
    rows = folded([1, 2], per_fold=10)
    found = roles(rows, "fold1", validation_fraction=0.2)
    of_fold = {fold: Counter(found[r["clip_id"]] for r in rows if r["fold"] == fold) for fold in (1, 2)}
    assert of_fold == {1: {"test": 30}, 2: {"train": 24, "validation": 6}}


def test_what_shares_a_recording_with_the_test_fold_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = folded([1, 2, 3, 4])
    # As in ESC-50: an upload in two folds. One also lies in validation and training.
    rows[0]["recording_id"] = rows[-1]["recording_id"] = "upload-a"  # folds 1 and 4
    rows[6]["recording_id"] = rows[12]["recording_id"] = "upload-b"  # folds 2 and 3
    with caplog.at_level(logging.WARNING):
        found = roles(rows, "fold1")
    assert rows[-1]["clip_id"] not in found and "share a recording with the test part" in caplog.text
    # Fold 2 validates: training keeps its clip, validation loses it.
    assert rows[6]["clip_id"] not in found and found[rows[12]["clip_id"]] == "train"
    assert Counter(found.values()) == {"test": 6, "validation": 5, "train": 11}
    assert "2 of 24 clips play no part" in caplog.text
    assert not leaking_recordings(partition_clips(table(rows), "fold3", Splits()))


def test_official_parts_stay_and_validation_is_drawn_where_there_is_none() -> None:
    rows = drawn(recordings=20)
    for row in rows:
        number = int(row["recording_id"].rpartition("-")[2])
        row["split"] = "test" if number < 5 else "train"
    rows.append(clip(999, "dog", "unlisted"))
    found = roles(rows, "official", validation_fraction=0.2)
    assert "clip-0999" not in found
    for label in LABELS:
        counts = Counter(found[row["clip_id"]] for row in rows[:-1] if row["label"] == label)
        assert counts == {"test": 10, "validation": 6, "train": 24}
    given = [
        row | {"split": "validation" if number % 9 == 8 else row["split"]} for number, row in enumerate(rows)
    ]
    # Recordings whole, so that nothing is left out.
    given = [row | {"recording_id": row["clip_id"]} for row in given]
    found = roles(given, "official")
    assert {row["clip_id"]: row["split"] for row in given if row["split"]} == found


def test_drawn_folds_are_even_and_test_every_clip_once() -> None:
    rows = drawn(recordings=10, takes=4)
    tested: Counter[str] = Counter()
    for number in range(1, 6):
        found = roles(rows, f"fold{number}", folds=5)
        counts = Counter((row["label"], found[row["clip_id"]]) for row in rows)
        # Ten recordings of four clips: two of each class test, two validate, six train.
        expected = {"test": 8, "validation": 8, "train": 24}
        assert counts == {(label, role): n for label in LABELS for role, n in expected.items()}
        tested.update(clip_id for clip_id, role in found.items() if role == "test")
        following = roles(rows, f"fold{number % 5 + 1}", folds=5)
        assert {c for c, r in found.items() if r == "validation"} == {
            c for c, r in following.items() if r == "test"
        }
    assert tested == dict.fromkeys((row["clip_id"] for row in rows), 1)


def test_drawn_folds_keep_speakers_whole() -> None:
    """And a recording of two speakers keeps both of them together, with all that either says."""
    rows = [
        clip(number, LABELS[number % 3], f"r{number}", speaker_id=f"s{number // 3}") for number in range(60)
    ]
    rows[0]["recording_id"] = rows[30]["recording_id"] = "dialogue"
    groups = whole_groups(rows)
    assert groups[0] == groups[2] == groups[30] == groups[32] != groups[3]
    assert len(set(groups)) == 19
    for number in range(1, 6):
        found = partition_clips(table(rows), f"fold{number}", Splits())
        role_of = {row["clip_id"]: row["role"] for row in found}
        sides = defaultdict(set)
        for row in rows:
            sides[row["speaker_id"]].add(role_of[row["clip_id"]])
        assert all(len(roles) == 1 for roles in sides.values())
        assert sides["s0"] == sides["s10"]


def test_clips_without_speakers_are_drawn_by_recording() -> None:
    rows = [clip(number, "dog", f"r{number // 2}", speaker_id=None) for number in range(4)]
    assert whole_groups(rows) == ["r0", "r0", "r1", "r1"]
    rows[3]["speaker_id"] = "s"
    assert len(set(whole_groups(rows))) == 2


def test_draws_are_a_matter_of_the_seed_and_not_of_the_row_order() -> None:
    rows = drawn(recordings=10)
    for split in ("fold1", "random"):
        assert roles(rows[::-1], split) == roles(rows, split)
        assert roles(rows, split, seed=1) != roles(rows, split)


def test_random_parts_recordings(caplog: pytest.LogCaptureFixture) -> None:
    rows = drawn(recordings=20, takes=5)
    with caplog.at_level(logging.INFO):
        found = roles(rows, "random", test_fraction=0.1, validation_fraction=0.2)
    assert Counter(found.values()) == {"test": 30, "validation": 60, "train": 210}
    role_of = defaultdict(set)
    for row in rows:
        role_of[row["recording_id"]].add(found[row["clip_id"]])
    leaked = sum(len(role_of[row["recording_id"]]) > 1 for row in rows if found[row["clip_id"]] == "test")
    assert leaked > 20 and f"{leaked} of 30 test clips share their recording" in caplog.text


def test_a_class_trains_before_it_validates(caplog: pytest.LogCaptureFixture) -> None:
    rows = [row for row in folded([1, 2, 3]) if row["label"] != "dog" or row["fold"] in (1, 2)]
    with caplog.at_level(logging.WARNING):
        found = roles(rows, "fold1")
    dogs = {row["fold"]: found[row["clip_id"]] for row in rows if row["label"] == "dog"}
    assert dogs == {1: "test", 2: "train"} and "train and don't validate" in caplog.text
    assert {row["role"] for row in partition_clips(table(rows), "fold1", Splits()) if row["class_id"] == 0} == {
        "train", "validation", "test",
    }  # fmt: skip


REFUSALS = "all clips of the class|the dataset has|two classes at least|folds or fewer|take fewer folds"
clip_lists = st.lists(
    st.tuples(st.sampled_from(LABELS), st.integers(0, 8), st.sampled_from([None, 1, 2, 3])),
    min_size=6,
    max_size=40,
)


@settings(max_examples=60)
@given(clip_lists, st.integers(2, 4), st.integers(1, 3), st.booleans())
def test_no_recording_has_two_roles(
    drawn_clips: list[tuple[str, int, int | None]], folds: int, number: int, shared: bool
) -> None:
    rows = [
        clip(n, label, str(recording) if shared else f"{label}-{recording}", fold=fold)
        for n, (label, recording, fold) in enumerate(drawn_clips)
    ]
    try:
        parts = partition_clips(table(rows), f"fold{number}", Splits(folds=folds))
    except ValueError as error:
        # Lists like these may be too poor for any partition; scikit-learn must not be the one to say so.
        assert re.search(REFUSALS, str(error))
        return
    assert not leaking_recordings(parts)
    assert len({row["clip_id"] for row in parts}) == len(parts) <= len(rows)
    assert set(clips_in(parts, "train").values()) == set(classes_in(parts))
    assert clips_in(parts, "test")


def test_files(tmp_path: Path) -> None:
    tables.write(tmp_path / "clips.parquet", CLIPS, drawn(recordings=5))
    out = tmp_path / "partition.parquet"
    split_clips(
        out, clips=tmp_path / "clips.parquet", split="fold3", settings=Splits(), provenance={"rule": "x"}
    )
    rows = read_partition(out, "fold3")
    assert rows == partition_clips(table(drawn(recordings=5)), "fold3", Splits())
    assert classes_in(rows) == [0, 10, 20] and len(clips_in(rows, "train", "validation", "test")) == 30
    # A clip whose recording trains is moved to the test part.
    moved = next(row for row in rows if row["role"] == "train")
    moved["role"] = "test"
    tables.write(out, AUDIO_PARTITION, rows)
    with pytest.raises(
        ValueError, match=rf"fold3 .*1 recordings have clips in two roles.*{moved['recording_id']}"
    ):
        read_partition(out, "fold3")
    assert read_partition(out, "random") == rows


def test_refusals() -> None:
    rows = drawn(recordings=5)
    with pytest.raises(ValueError, match=r"split `fold6`: the dataset has `fold1`, `fold2`, .*`random`"):
        roles(rows, "fold6")
    with pytest.raises(
        ValueError, match="split `official`: the dataset has `fold1`, `fold2`, `fold3`, `random`"
    ):
        roles(folded([1, 2, 3]), "official")
    lone = [row for row in rows if row["label"] != "rain" or row["recording_id"] == "rain-0"]
    tested_in = 0
    for number in range(1, 6):
        try:
            roles(lone, f"fold{number}")
        except ValueError as error:
            tested_in += 1
            assert "all clips of the class `rain` (1 recordings) are tested" in str(error)
            assert "add recordings of it, or leave it out" in str(error)
    assert tested_in == 1
    with pytest.raises(ValueError, match="clip clip-0000 has several labels \\(bell, dog\\)"):
        roles([rows[0] | {"labels": ["bell", "dog"]}, *rows[1:]], "fold1")
    with pytest.raises(ValueError, match="clip clip-0000 has no class number"):
        roles([rows[0] | {"class_id": None}, *rows[1:]], "fold1")
    with pytest.raises(ValueError, match="two classes at least"):
        roles(rows[:10], "fold1")
    with pytest.raises(ValueError, match="20 folds of 15 recordings, 10 clips in the largest class: take 10"):
        roles(rows, "fold1", folds=20)
    with pytest.raises(ValueError, match="folds must be at least 2"):
        Splits(folds=1)
    with pytest.raises(ValueError, match=r"test_fraction must lie between 0 and 0.5, got 0"):
        Splits(test_fraction=0)


def test_folds_stay_about_even_with_recordings_of_any_size() -> None:
    sizes = [9, 7, 5, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1]
    class_ids = [c for c in range(3) for size in sizes for _ in range(size)]
    recordings = [f"{c}-{r}" for c in range(3) for r, size in enumerate(sizes) for _ in range(size)]
    folds = draw_folds(class_ids, recordings, 4, seed=3)
    counts = Counter(zip(folds.tolist(), class_ids, strict=True))
    # 40 clips of each class in 4 folds: 10 each, as near as whole recordings allow.
    assert all(8 <= counts[fold, c] <= 12 for fold in range(1, 5) for c in range(3))
    assert len({(fold, r) for fold, r in zip(folds.tolist(), recordings, strict=True)}) == len(
        set(recordings)
    )
