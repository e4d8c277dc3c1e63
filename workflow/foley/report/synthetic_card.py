"""The card of a set of synthetic clips: a README.md as the Hugging Face hub reads it, metadata first.

Sources: the hub's specification of dataset cards (https://huggingface.co/docs/hub/datasets-cards) for the head; what a
synthetic set should say for itself: which model at which commit made it, under which licence, of what prompts, and
what was thrown away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import yaml

from foley import tables
from foley.generators.audio.published import NO_MODEL, Licence, PublishedModel, published_model
from foley.report.dataset_card import plain
from foley.tables.audio_studies import GENERATION_COST, REJECTED_SYNTHETIC, SYNTHETIC_CLIPS
from foley.tables.prompts import PROMPTS

# The hub's size categories: (more than this many clips, name).
_SIZES = (
    (1_000_000, "1M<n<10M"),
    (100_000, "100K<n<1M"),
    (10_000, "10K<n<100K"),
    (1_000, "1K<n<10K"),
    (0, "n<1K"),
)
_EXAMPLES = 5


@dataclass(frozen=True)
class SyntheticSet:
    """Where a set's tables lie; ids are those of the config.

    licence: identifier on the hub of the licence of a model that is not one of the published ones.
    """

    dataset: str
    generator: str
    prompts: str
    clips: Sequence[Path]
    rejected: Sequence[Path]
    costs: Sequence[Path]
    prompt_table: Path
    licence: str | None = None


def write_synthetic_card(
    markdown: Path, of: SyntheticSet, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the card.

    Raises:
        ValueError: the shards are of different models.
    """
    text = render_synthetic_card(of, provenance)
    with tables.atomic_file(markdown) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def render_synthetic_card(of: SyntheticSet, provenance: Mapping[str, Any] | None = None) -> str:
    """The card as text; strings from data and from language models are shown as they are, not as markup."""
    columns = [
        "label", "model_id", "model_revision", "prompt_id", "prompt", "sampler", "steps", "guidance", "candidates",
        "attempts", "channels", "peak", "rms_db", "loudness_lufs", "duration_s", "sample_rate_hz",
    ]  # fmt: skip
    clips = tables.read(of.clips, SYNTHETIC_CLIPS, columns=columns)
    rejected = tables.read(of.rejected, REJECTED_SYNTHETIC)
    costs = tables.read(of.costs, GENERATION_COST).to_pylist()
    prompts = tables.read(of.prompt_table, PROMPTS, columns=["label", "strategy", "text", "model"])
    model_id, revision = _model(clips, costs, of)
    known = published_model(model_id)
    licence = _licence(model_id, known, of.licence)
    if known is None:
        # A card may be passed on: where a folder lies is nobody's business.
        model_id = Path(model_id).name
    lines = [
        *_head(of, licence, clips.num_rows, model_id),
        f"# Synthetic clips: {plain(of.generator)}, prompts {plain(of.prompts)}, classes of {plain(of.dataset)}",
        "",
        f"{clips.num_rows:,} clips ({_hours(clips)} h) of {len(set(clips['label'].to_pylist())):,} classes, made from "
        "prompts. No recording went into them beside those that the model was trained on.",
        "",
        *_made(of, clips, costs, model_id, revision, known),
        *_licences(model_id, known, licence),
        *_prompts(prompts, clips),
        *_levels(clips),
        *_rejected(rejected, clips.num_rows),
        *_cost(costs),
        *_classes(clips, rejected),
    ]
    rule = (provenance or {}).get("rule")
    return "\n".join([*lines, "---", "", f"Made by foley{f', rule {plain(rule)}' if rule else ''}.", ""])


def _model(clips: Any, costs: Sequence[Mapping[str, Any]], of: SyntheticSet) -> tuple[str, str | None]:
    found = set(zip(clips["model_id"].to_pylist(), clips["model_revision"].to_pylist(), strict=True))
    if len(found) > 1:
        raise ValueError(
            f"the clips of {of.generator} are of several models: {sorted(map(str, found))}; generate them again"
        )
    if found:
        return found.pop()
    return (str(costs[0]["model_id"]) if costs else of.generator), None


def _licence(model_id: str, known: PublishedModel | None, given: str | None) -> Licence:
    if known is not None:  # whatever an option says of it
        return known.licence
    if given is not None:
        return Licence(given, given)
    return NO_MODEL if model_id == "noise" else Licence("unknown", "unknown")


def _head(of: SyntheticSet, licence: Licence, count: int, model_id: str) -> list[str]:
    facts: dict[str, Any] = {
        "pretty_name": f"Synthetic clips by {of.generator} for {of.dataset}",
        "license": licence.identifier,
    }
    if licence.identifier == "other":
        facts |= {"license_name": licence.name, "license_link": licence.url}
    facts |= {
        "task_categories": ["audio-classification"],
        "tags": ["audio", "synthetic", "text-to-audio", *([model_id] if published_model(model_id) else [])],
        "size_categories": [next(name for least, name in _SIZES if count >= least)],
        "source_datasets": [],
        "configs": [{"config_name": "default", "data_files": "clips/*.parquet"}],
    }
    # ASCII, so that no odd line break of a name can end a line here.
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=False, width=1000)
    return ["---", *text.splitlines(), "---", ""]


def _made(
    of: SyntheticSet,
    clips: Any,
    costs: Sequence[Mapping[str, Any]],
    model_id: str,
    revision: str | None,
    known: PublishedModel | None,
) -> list[str]:
    def values(column: str) -> str:
        found = sorted({value for value in clips[column].to_pylist() if value is not None})
        return ", ".join(f"{value:g}" if isinstance(value, float) else plain(value) for value in found)

    channels = sorted({value for value in clips["channels"].to_pylist() if value is not None})
    mixed = "" if channels in ([], [1]) else f", the mean of {', '.join(map(str, channels))} channels"
    rows = [
        ("generator", plain(of.generator)),
        ("model", plain(model_id) + (f" ({plain(known.title)})" if known else "")),
        ("commit", plain(revision or "none: a local folder or no model")),
        ("paper", f"<{known.paper}>" if known else ""),
        ("sampler", values("sampler")),
        ("steps", values("steps")),
        ("guidance", values("guidance")),
        ("candidates a clip, of which CLAP chose one", values("candidates")),
        ("precision", ", ".join(sorted({plain(row["precision"]) for row in costs}))),
        ("length", f"{values('duration_s')} s"),
        ("audio", f"{values('sample_rate_hz')} Hz, mono{mixed}, 16 bit"),
    ]
    return ["## How they were made", "", *_table(("", ""), [row for row in rows if row[1]])]


def _licences(model_id: str, known: PublishedModel | None, licence: Licence) -> list[str]:
    if model_id == "noise":
        text = "No model made these clips: they are noise by a formula."
    elif licence.identifier == "unknown":
        text = (
            f"The licence of {plain(model_id)} is unknown: see where it came from before you pass these clips on. The "
            "generator's option `licence` fills this in."
        )
    else:
        link = f" (<{licence.url}>)" if licence.url else ""
        text = (
            f"The weights of {plain(model_id)} are under {plain(licence.name)}{link}. These clips are labelled the "
            "same: what their makers allow for the weights is the least that can be assumed for what they make."
        )
        if "nc" in licence.identifier.split("-"):
            text += " That excludes commercial use."
    parts = f" Beside them: {', '.join(map(plain, known.parts))}." if known and known.parts else ""
    return ["## Licence", "", text + parts, ""]


def _prompts(prompts: Any, clips: Any) -> list[str]:
    strategies = Counter(prompts["strategy"].to_pylist())
    writers = sorted({name for name in prompts["model"].to_pylist() if name})
    used = len(set(clips["prompt_id"].to_pylist()))
    counts = ", ".join(f"{plain(name)} {count:,}" for name, count in sorted(strategies.items()))
    by = f" Written by {', '.join(map(plain, writers))}." if writers else ""
    lines = ["## Prompts", "", f"{prompts.num_rows:,} prompts ({counts}), {used:,} of them used.{by}", ""]
    step = max(prompts.num_rows // _EXAMPLES, 1)
    shown = prompts.to_pylist()[::step][:_EXAMPLES]
    rows = [(plain(row["label"]), plain(row["text"][:200])) for row in shown]
    return lines + _table(("class", "for example"), rows)


def _levels(clips: Any) -> list[str]:
    rows = []
    for column, name, unit in (
        ("loudness_lufs", "loudness", "LUFS"), ("rms_db", "root mean square", "dB"), ("peak", "peak", ""),
    ):  # fmt: skip
        values = np.array([value for value in clips[column].to_pylist() if value is not None])
        if len(values):
            low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
            rows.append((name, *(f"{value:.3g} {unit}".strip() for value in (low, median, high))))
    if not rows:
        return []
    lines = [
        "## Levels",
        "",
        "As generated; nothing was normalised. What lies above full scale was cut off.",
        "",
    ]
    return lines + _table(("", "5 %", "median", "95 %"), rows, numbers=(1, 2, 3))


def _rejected(rejected: Any, kept: int) -> list[str]:
    lines = ["## Rejected", ""]
    if not rejected.num_rows:
        return [*lines, "None.", ""]
    reasons = Counter(rejected["reason"].to_pylist())
    lines += [f"{rejected.num_rows:,} of {rejected.num_rows + kept:,}, each after all its attempts.", ""]
    rows = []
    for reason, count in sorted(reasons.items()):
        first = rejected.filter(pc.equal(rejected["reason"], reason)).slice(0, 1).to_pylist()[0]
        rows.append((plain(reason), f"{count:,}", plain(f"{first['clip_id']}: {first['detail']}")))
    return lines + _table(("reason", "clips", "for example"), rows, numbers=(1,))


def _cost(costs: Sequence[Mapping[str, Any]]) -> list[str]:
    by_device: dict[str, list[Mapping[str, Any]]] = {}
    for row in costs:
        by_device.setdefault(row["device"], []).append(row)
    rows = []
    for device, parts in sorted(by_device.items()):
        seconds = sum(row["seconds"] for row in parts)
        audio = sum(row["audio_s"] for row in parts)
        rate = f"{audio / seconds:.3g}" if seconds > 0 else ""
        drawn = sum(row["drawn"] for row in parts)
        rows.append((plain(device), f"{seconds / 3600:.3g}", f"{drawn:,}", rate))
    if not rows:
        return []
    head = ("device", "hours of generating", "clips drawn", "seconds of audio a second")
    return ["## Cost", "", *_table(head, rows, numbers=(1, 2, 3))]


def _classes(clips: Any, rejected: Any) -> list[str]:
    kept, lost = Counter(clips["label"].to_pylist()), Counter(rejected["label"].to_pylist())
    rows = [
        (plain(label), f"{kept[label]:,}", f"{lost[label]:,}") for label in sorted(kept.keys() | lost.keys())
    ]
    return ["## Classes", "", *_table(("class", "clips", "rejected"), rows, numbers=(1, 2))]


def _hours(clips: Any) -> str:
    return f"{(pc.sum(clips['duration_s']).as_py() or 0.0) / 3600:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> list[str]:
    """Cells are Markdown already; ``numbers`` are the columns that stand right."""
    rules = ["---:" if column in numbers else "---" for column in range(len(head))]
    return ["| " + " | ".join(line) + " |" for line in (head, rules, *rows)] + [""]
