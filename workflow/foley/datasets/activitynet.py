"""ActivityNet 1.3: 200 activities, marked as segments in untrimmed YouTube videos.

Caba Heilbron, Escorcia, Ghanem & Niebles, "ActivityNet: A Large-Scale Video Benchmark for Human Activity
Understanding", CVPR 2015.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foley.datasets.metadata import known_class
from foley.datasets.protocol import VIDEO_SUFFIXES, DatasetKind, RawClass, RawClip, audio_files

log = logging.getLogger(__name__)

ANNOTATIONS = "activity_net.v1-3.min.json"
RELEASE = "1.3"
SPLITS = {"training": "train", "validation": "validation"}


@dataclass(frozen=True)
class ActivityNetOptions:
    """max_segment_s: longer segments are cut to their first `max_segment_s` seconds; None keeps them whole."""

    max_segment_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_segment_s is not None and self.max_segment_s <= 0:
            raise ValueError(f"max_segment_s must be more than 0 seconds, got {self.max_segment_s:g}")


class ActivityNet(DatasetKind):
    """`activity_net.v1-3.min.json` and `v_<id>.mp4` (`.mkv`, `.webm`) in any folder beside it; one clip a segment.

    The labels of the test videos are withheld, so these are left out. Videos that are gone from YouTube and from
    the folder leave their segments among the rejected clips, and so do videos without a sound track.
    """

    title = "ActivityNet 1.3"
    official_splits = ()
    licence = "annotations MIT; videos under the terms of their YouTube uploads"
    citation = (
        "Caba Heilbron, Escorcia, Ghanem & Niebles 2015, ActivityNet: A Large-Scale Video Benchmark for Human "
        "Activity Understanding"
    )
    url = "http://activity-net.org/download.html"
    by_hand = (
        f"Get {ANNOTATIONS} from http://activity-net.org/download.html (or from Evaluation/data of "
        "https://github.com/activitynet/ActivityNet). Ask for the videos with the request form that the folder "
        "Crawler of that repository links to (access lasts seven days), or fetch them from YouTube with the script "
        f"there. Put {ANNOTATIONS} and the videos, named v_<id>.mp4, .mkv or .webm, into one folder (the videos in "
        "videos/ or any other folder below it)"
    )
    Options = ActivityNetOptions
    published_clips = 23_064
    claims = frozenset({("recording", "split")})
    media = VIDEO_SUFFIXES
    tables = (ANNOTATIONS,)

    def check(self, root: Path) -> None:
        super().check(root)
        if not (root / ANNOTATIONS).is_file():
            raise FileNotFoundError(
                f"{root} is not an ActivityNet folder: {ANNOTATIONS} is not there. {self.by_hand}"
            )
        if not any(path.stem.startswith("v_") for path in audio_files(root, VIDEO_SUFFIXES)):
            raise FileNotFoundError(
                f"{root} is not an ActivityNet folder: no video v_<id>.mp4. {self.by_hand}"
            )

    def classes(self, root: Path) -> list[RawClass]:
        parents = _leaves(_read(root / ANNOTATIONS), root / ANNOTATIONS)
        return [RawClass(number, label, parents[label]) for number, label in enumerate(sorted(parents))]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        table = root / ANNOTATIONS
        content = _read(table)
        labels = sorted(_leaves(content, table))
        files: dict[str, Path] = {}
        for path in audio_files(root, VIDEO_SUFFIXES):
            if path.stem in files:
                raise ValueError(f"two files for one video: {files[path.stem]} and {path}; remove one")
            files[path.stem] = path
        clips: list[RawClip] = []
        left_out: Counter[str] = Counter()
        for video, entry in sorted(content["database"].items()):
            place = f"{table}, video {video}"
            subset = entry.get("subset")
            if subset not in SPLITS:
                if subset != "testing":
                    raise ValueError(
                        f"{place}: subset must be training, validation or testing, got {subset!r}"
                    )
                left_out[subset] += 1
                continue
            path = files.get(f"v_{video}", root / "videos" / f"v_{video}.mp4")
            for number, item in enumerate(entry.get("annotations", ())):
                label = str(item.get("label"))
                class_id = known_class(label, labels, place)
                start_s, end_s = _segment(item, place)
                if self.options.max_segment_s is not None:
                    end_s = min(end_s, start_s + self.options.max_segment_s)
                clips.append(
                    RawClip(
                        clip_id=f"{video}_{number}",
                        source=path.relative_to(root).as_posix(),
                        label=label,
                        class_id=class_id,
                        recording_id=video,
                        split=SPLITS[subset],
                        start_s=start_s,
                        end_s=end_s,
                    )
                )
        missing = len({clip.recording_id for clip in clips if f"v_{clip.recording_id}" not in files})
        if missing:
            log.warning("%d annotated videos are not in %s; their segments will be rejected", missing, root)
        log.info("%d test videos have no labels and are left out", left_out["testing"])
        return clips


def _read(path: Path) -> dict[str, Any]:
    """The annotation file with the keys that Foley needs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); fetch the file again") from None
    lacking = [
        key
        for key in ("database", "taxonomy", "version")
        if not isinstance(content, dict) or key not in content
    ]
    if lacking:
        raise ValueError(f"{path} lacks the keys {lacking}; it is not ActivityNet's annotation file")
    if RELEASE not in str(content["version"]):
        raise ValueError(f"{path} is of {content['version']!r}; Foley reads release {RELEASE} (200 classes)")
    return content


def _leaves(content: dict[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """Class -> the node above it, of the taxonomy's leaves."""
    try:
        inner = {node["parentId"] for node in content["taxonomy"]}
        return {
            node["nodeName"]: (node["parentName"],)
            for node in content["taxonomy"]
            if node["nodeId"] not in inner
        }
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: a node of the taxonomy lacks {error}") from None


def _segment(item: dict[str, Any], place: str) -> tuple[float, float]:
    """Start and end of an annotated segment in seconds."""
    try:
        start_s, end_s = (float(value) for value in item["segment"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{place}: segment must be [start, end] in seconds, got {item.get('segment')!r}"
        ) from None
    return start_s, end_s
