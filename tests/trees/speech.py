"""Trees of the datasets of music, video and speech: GTZAN, UCF101, ActivityNet, IEMOCAP, Speech Commands, EmoDB,
RAVDESS."""

from __future__ import annotations

import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from foley.classes.table import read_class_table
from trees import Tree, checksum_overrides, tar_folder, tone, write_text, write_wav, zip_folder

RESOURCES = Path(__file__).resolve().parents[2] / "resources"


def labels_of(kind: str) -> list[str]:
    """All labels that the dataset defines, in the order of their numbers."""
    return [info.label for info in read_class_table(RESOURCES / "classes" / f"{kind}.yaml").classes]


# Containers that publishers use


def write_video(
    path: Path, seconds: float, seed: int | None, *, video: str = "mpeg4", audio: str = "libmp3lame"
) -> None:
    """Write a tiny video, the container by the path's suffix; ``seed`` of its sound track, None for none.

    video, audio: FFmpeg's names of the codecs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frames_a_second = 10
    # libopus takes 48 kHz only.
    rate = 48_000 if audio == "libopus" else 44_100
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=frames_a_second)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        if video == "mpeg4":
            pictures.codec_context.codec_tag = "XVID" if path.suffix == ".avi" else "mp4v"
        sound = container.add_stream(audio, rate=rate, layout="mono") if seed is not None else None
        for number in range(round(seconds * frames_a_second)):
            shade = np.full((48, 64, 3), 8 * number % 256, dtype=np.uint8)
            picture = av.VideoFrame.from_ndarray(shade, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, frames_a_second)
            container.mux(pictures.encode(picture))
        container.mux(pictures.encode(None))
        if sound is not None and seed is not None:
            samples = (tone(seed, seconds, rate) * 32767).astype(np.int16)
            for start in range(0, len(samples), 1024):
                part = av.AudioFrame.from_ndarray(
                    samples[None, start : start + 1024], format="s16", layout="mono"
                )
                part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


def write_rar(folder: Path, archive: Path) -> None:
    """Pack what ``folder`` holds as RAR 4 without compression (method 0x30), which needs no tool to unpack.

    The layout is that of RAR's technote.txt: blocks of `checksum, type, flags, size` and their own fields, where the
    checksum is the lower half of the CRC-32 of what follows it in the header.
    """

    def block(kind: int, flags: int, fields: bytes) -> bytes:
        header = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header

    unix, version, stored = 3, 20, 0x30
    written = ((2013 - 1980) << 9 | 10 << 5 | 18) << 16  # DOS date and time
    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix().encode()
        content = path.read_bytes() if path.is_file() else b""
        # 0x8000: data follows; 0xE0: a folder.
        flags, mode = (0x8000, 0o100644) if path.is_file() else (0x80E0, 0o40755)
        fields = struct.pack(
            "<IIBIIBBHI",
            len(content), len(content), unix, zlib.crc32(content), written, version, stored, len(name), mode,
        )  # fmt: skip
        parts.append(block(0x74, flags, fields + name) + content)
    parts.append(block(0x7B, 0x4000, b""))
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"".join(parts))


# GTZAN

# Of each genre a file of the fault-filtered training, validation and test list.
GTZAN_NUMBERS = {
    "blues": (29, 0, 12),
    "classical": (30, 0, 11),
    "country": (19, 0, 30),
    "disco": (5, 0, 1),
    "hiphop": (2, 81, 0),
    "jazz": (54, 2, 73),
    "metal": (2, 0, 12),
    "pop": (2, 10, 0),
    "reggae": (0, 61, 34),
    "rock": (0, 38, 10),
}
# In no list: faulty.
GTZAN_FAULTY = ("classical.00042", "jazz.00042")


def build_gtzan(folder: Path, *, fault_filtered: bool = False, broken: bool = False) -> Tree:
    """GTZAN; with its fault-filtered lists beside `genres/`, and with the `jazz.00054` that some copies hold."""
    root, served = folder / "tree", folder / "served"
    lists: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    stems = list(GTZAN_FAULTY)
    for genre, numbers in GTZAN_NUMBERS.items():
        for name, number in zip(lists, numbers, strict=True):
            lists[name].append(f"{genre}/{genre}.{number:05d}.wav")
            stems.append(f"{genre}.{number:05d}")
    for seed, stem in enumerate(stems):
        write_wav(root / "genres" / stem.partition(".")[0] / f"{stem}.wav", tone(seed, rate=22_050), 22_050)
    write_text(root / "genres" / "input.mf", "".join(f"genres/{line}\tblues\n" for line in lists["train"]))
    if broken:
        (root / "genres" / "jazz" / "jazz.00054.wav").write_bytes(b"\x00\x01nonsense" * 400)
    tar_folder(root / "genres", served / "genres.tar.gz", top="genres")
    if fault_filtered:
        for name, lines in lists.items():
            write_text(root / f"{name}_filtered.txt", "".join(f"{line}\n" for line in lines))
    return Tree(
        "gtzan",
        root,
        served,
        checksum_overrides(served),
        clips=len(stems) - (len(GTZAN_FAULTY) if fault_filtered else 0),
        labels=set(GTZAN_NUMBERS),
        options={"split": "fault_filtered"} if fault_filtered else {},
    )


# UCF101

UCF101_CLASSES = ("ApplyEyeMakeup", "Archery", "HandstandPushups", "PlayingCello", "PlayingGuitar", "YoYo")
# In list 1 the groups 1 to 7 are the test set, in list 2 8 to 14, in list 3 15 to 21.
UCF101_GROUPS = (1, 8, 15)
UCF101_SILENT = "v_YoYo_g08_c02"


def build_ucf101(folder: Path) -> Tree:
    """UCF101: two clips of each of three videos in six classes; one clip has no sound track."""
    root, served = folder / "tree", folder / "served"
    labels = labels_of("ucf101")
    lists: dict[str, list[str]] = {}
    for number, first in ((1, 1), (2, 8), (3, 15)):
        lists[f"trainlist0{number}.txt"], lists[f"testlist0{number}.txt"] = [], []
        for label in UCF101_CLASSES:
            # The files of this class spell it with another capital.
            name = label.replace("HandstandPushups", "HandStandPushups")
            for group in UCF101_GROUPS:
                for clip in (1, 2):
                    entry = f"{label}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                    if group == first:
                        lists[f"testlist0{number}.txt"].append(entry)
                    else:
                        lists[f"trainlist0{number}.txt"].append(f"{entry} {labels.index(label) + 1}")
    entries = [line.split()[0] for name in ("trainlist01.txt", "testlist01.txt") for line in lists[name]]
    for seed, entry in enumerate(sorted(entries)):
        silent = Path(entry).stem == UCF101_SILENT
        audio = "pcm_s16le" if seed % 4 == 0 else "libmp3lame"
        write_video(root / "UCF-101" / entry, 0.6, None if silent else seed, audio=audio)
    numbered = [f"{number} {label}" for number, label in enumerate(labels, start=1)]
    for name, lines in {"classInd.txt": numbered, **lists}.items():
        # The lists have Windows line ends.
        write_text(root / "ucfTrainTestlist" / name, "".join(f"{line}\r\n" for line in lines))
    videos = folder / "videos"
    videos.mkdir()
    (root / "UCF-101").rename(videos / "UCF-101")
    write_rar(videos, served / "UCF101.rar")
    (videos / "UCF-101").rename(root / "UCF-101")
    zip_folder(
        root / "ucfTrainTestlist",
        served / "UCF101TrainTestSplits-RecognitionTask.zip",
        top="ucfTrainTestlist",
    )
    return Tree(
        "ucf101",
        root,
        served,
        checksum_overrides(served),
        clips=len(entries),
        labels=set(UCF101_CLASSES),
    )


# ActivityNet

ACTIVITYNET_SILENT = "-aKgdJTbMvY"
ACTIVITYNET_MISSING = "zzyvkkfyoUU"
# Video: subset, folder, suffix, and its segments.
ACTIVITYNET_VIDEOS: dict[str, tuple[str, str, str, list[tuple[float, float, str]]]] = {
    "5n7NCViB5TU": ("training", "train", ".mp4", [(0.25, 1.5, "Discus throw"), (2.0, 3.75, "Discus throw")]),
    "_0x7PiSoQ40": ("training", "train", ".mp4", [(0.5, 3.0, "Playing guitarra")]),
    "3wbT26mHU5A": ("training", "train", ".mkv", [(1.0, 2.0, "Mooping floor"), (2.5, 3.5, "Kneeling")]),
    "vVmjZZ2S0wQ": ("validation", "val", ".mp4", [(0.0, 2.0, "Discus throw")]),
    "7tOoW2Fkg8k": ("validation", "val", ".webm", [(1.25, 3.0, "Playing guitarra")]),
    ACTIVITYNET_SILENT: ("validation", "val", ".mp4", [(0.5, 2.5, "BMX")]),
    ACTIVITYNET_MISSING: ("training", "", "", [(3.0, 9.5, "BMX"), (12.0, 15.0, "Baking cookies")]),
    "t3pbWbTdWXc": ("testing", "", "", []),
}


def build_activitynet(folder: Path) -> Tree:
    """ActivityNet: four-second videos, one without a sound track, one annotated but gone, one of the test set.

    The published taxonomy has more levels between its root and the 200 classes than this one.
    """
    root = folder / "tree"
    database: dict[str, Any] = {}
    for seed, (video, (subset, place, suffix, segments)) in enumerate(ACTIVITYNET_VIDEOS.items()):
        database[video] = {
            "duration": 4.0,
            "subset": subset,
            "resolution": "64x48",
            "url": f"https://www.youtube.com/watch?v={video}",
            "annotations": [{"segment": [start, end], "label": label} for start, end, label in segments],
        }
        if suffix:
            codecs = {".mp4": ("libx264", "aac"), ".mkv": ("mpeg4", "aac"), ".webm": ("libvpx", "libopus")}
            picture, sound = codecs[suffix]
            silent = video == ACTIVITYNET_SILENT
            path = root / place / f"v_{video}{suffix}"
            write_video(path, 4.0, None if silent else seed, video=picture, audio=sound)
    above = {"Playing guitarra": "Playing musical instruments", "Mooping floor": "Housework"}
    nodes: list[dict[str, Any]] = [
        {"parentName": None, "nodeName": "Root", "nodeId": 0, "parentId": None},
        {"parentName": "Root", "nodeName": "Sports, Exercise, and Recreation", "nodeId": 1, "parentId": 0},
        {"parentName": "Root", "nodeName": "Household Activities", "nodeId": 2, "parentId": 0},
        {"parentName": "Household Activities", "nodeName": "Housework", "nodeId": 3, "parentId": 2},
        {"parentName": "Root", "nodeName": "Playing musical instruments", "nodeId": 4, "parentId": 0},
    ]
    ids = {node["nodeName"]: node["nodeId"] for node in nodes}
    for number, label in enumerate(labels_of("activitynet"), start=100):
        parent = above.get(label, "Sports, Exercise, and Recreation")
        nodes.append({"parentName": parent, "nodeName": label, "nodeId": number, "parentId": ids[parent]})
    content = {"database": database, "taxonomy": nodes, "version": "VERSION 1.3"}
    write_text(root / "activity_net.v1-3.min.json", json.dumps(content))
    kept = [label for _, _, _, segments in ACTIVITYNET_VIDEOS.values() for _, _, label in segments]
    return Tree("activitynet", root, folder / "served", {}, clips=len(kept), labels=set(kept))


# IEMOCAP

IEMOCAP_TURNS = ("neu", "hap", "exc", "ang", "sad", "fru", "xxx", "neu", "sur")


def build_iemocap(folder: Path) -> Tree:
    """IEMOCAP: an improvised and a scripted dialogue of nine turns in each session, six turns in the four classes."""
    root = folder / "tree"
    seed = clips = 0
    for session in range(1, 6):
        base = root / f"Session{session}"
        for dialog in (f"Ses{session:02d}F_impro01", f"Ses{session:02d}M_script01_1b"):
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for turn, emotion in enumerate(IEMOCAP_TURNS):
                utterance = f"{dialog}_{'FM'[turn % 2]}{turn:03d}"
                write_wav(base / "sentences" / "wav" / dialog / f"{utterance}.wav", tone(seed))
                seed += 1
                lines += [
                    f"[{6 + 3 * turn}.2901 - {8 + 3 * turn}.2357]\t{utterance}\t{emotion}\t[2.5000, 2.5000, 2.5000]",
                    "C-E2:\tNeutral;\t()",
                    "C-F1:\tNeutral;\t(curious)",
                    "A-E3:\tval 3; act 2; dom  2;\t()",
                    "",
                ]
                clips += emotion in ("neu", "hap", "exc", "ang", "sad")
            votes = base / "dialog" / "EmoEvaluation"
            write_text(votes / f"{dialog}.txt", "\n".join(lines) + "\n")
            # macOS's own file, and what single evaluators said.
            (votes / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07\x00\x02\xff\xfe")
            write_text(votes / "Categorical" / f"{dialog}_e2_cat.txt", f"{dialog}_F000 :Neutral state; ()\n")
    return Tree("iemocap", root, folder / "served", {}, clips=clips, labels={"neu", "hap", "ang", "sad"})


# Speech Commands

# Speakers as they are in the official lists, and one of the training set.
SPEAKERS = {"train": "00b01445", "validation": "8b775397", "test": "2aa787cf"}


def build_speech_commands(folder: Path) -> Tree:
    """Speech Commands v2: each of the 35 words once by a speaker of each split, with the lists and the noise."""
    root, served = folder / "tree", folder / "served"
    words = labels_of("speech_commands")[:35]  # the rest are the two classes of the task with twelve
    listed: dict[str, list[str]] = {split: [] for split in SPEAKERS}
    seed = 0
    for word in words:
        for split, speaker in SPEAKERS.items():
            name = f"{word}/{speaker}_nohash_0.wav"
            write_wav(root / name, tone(seed))
            listed[split].append(f"{name}\n")
            seed += 1
    for name in ("white_noise", "pink_noise", "running_tap", "exercise_bike"):
        write_wav(root / "_background_noise_" / f"{name}.wav", tone(seed, 2.0))
        seed += 1
    write_text(root / "_background_noise_" / "README.md", "Noise.\n")
    write_text(root / "validation_list.txt", "".join(listed["validation"]))
    write_text(root / "testing_list.txt", "".join(listed["test"]))
    write_text(root / "README.md", "Speech Commands.\n")
    write_text(root / "LICENSE", "Creative Commons BY 4.0\n")
    tar_folder(root, served / "speech_commands_v0.02.tar.gz")
    return Tree(
        "speech_commands",
        root,
        served,
        checksum_overrides(served),
        clips=len(words) * len(SPEAKERS),
        labels=set(words),
    )


# EmoDB


def build_emodb(folder: Path) -> Tree:
    """EmoDB: four of the seven emotions by each of its ten speakers."""
    root, served = folder / "tree", folder / "served"
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    stems = []
    for number, speaker in enumerate(speakers):
        for turn in range(4):
            stems.append(f"{speaker}{texts[number]}{'WLEAFTN'[(number + 2 * turn) % 7]}{'abcd'[turn]}")
    for seed, stem in enumerate(stems):
        write_wav(root / "wav" / f"{stem}.wav", tone(seed))
        write_text(root / "lablaut" / f"{stem}.lablaut", "0.100000 -1 .\n")
    (root / "erkennung.txt").write_text("Satz\terkannt\tnatürlich\n", encoding="latin-1")
    zip_folder(root, served / "download.zip")
    return Tree(
        "emodb",
        root,
        served,
        checksum_overrides(served),
        clips=len(stems),
        labels={"anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"},
    )


# RAVDESS


def build_ravdess(folder: Path) -> Tree:
    """RAVDESS: two of the eight spoken emotions by each of its 24 actors."""
    root, served = folder / "tree", folder / "served"
    stems = []
    for actor in range(1, 25):
        for turn in range(2):
            emotion = (actor + 3 * turn) % 8 + 1
            stems.append((actor, f"03-01-{emotion:02d}-01-{turn + 1:02d}-01-{actor:02d}"))
    for seed, (actor, stem) in enumerate(stems):
        write_wav(root / f"Actor_{actor:02d}" / f"{stem}.wav", tone(seed, 0.4, 48_000), 48_000)
    zip_folder(root, served / "Audio_Speech_Actors_01-24.zip")
    return Tree(
        "ravdess",
        root,
        served,
        checksum_overrides(served),
        clips=len(stems),
        labels={"neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"},
    )
