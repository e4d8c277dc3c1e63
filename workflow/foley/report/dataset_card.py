"""The card of a dataset: what it holds and whether its folds keep apart what they should, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foley import tables
from foley.datasets.checksums import Comparison
from foley.datasets.leaks import BETWEENS, NEAR_BITS
from foley.download.disk import readable
from foley.report.data_summary import DatasetTables, DataSummary, LeakCheck, summarise

WHAT_NAMES = {
    "audio": "equal audio",
    "near_audio": "near-equal audio",
    "recording": "recordings",
    "speaker": "speakers",
}
_BAR = 24  # characters of the longest bar
_CARD_LEAKS = 20
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")
_LINK = re.compile(r"https?://[^\s<>()\[\]\"'`|\\]+")


def _one_line(text: Any) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _escaped(line: str) -> str:
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(r"\\\1", line)
    # GitHub makes links and formulas of these without any brackets.
    for mark, entity in (("$", "&#36;"), ("@", "&#64;"), ("://", "&#58;//"), ("www.", "www&#46;")):
        line = line.replace(mark, entity)
    return line


def plain(text: Any) -> str:
    """A string from data on one line, as Markdown that shows it as it is: no markup, no HTML, no links, no formulas."""
    return _escaped(_one_line(text))


def _link(url: str) -> str:
    return f"<{url}>" if _LINK.fullmatch(url) else plain(url)


def _linked(text: str) -> str:
    """Text from us or from a publisher, in which addresses are links."""
    line, parts, end = _one_line(text), [], 0
    for match in _LINK.finditer(line):
        address = match[0].rstrip(".,;:")
        parts += [_escaped(line[end : match.start()]), f"<{address}>"]
        end = match.start() + len(address)
    return "".join([*parts, _escaped(line[end:])])


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> list[str]:
    """A table whose cells are Markdown already; ``numbers`` are the columns that stand right."""
    rules = ["---:" if column in numbers else "---" for column in range(len(head))]
    lines = [head, rules, *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines] + [""]


def seconds(value: float) -> str:
    """A length with as many digits as tell lengths apart: `0.05`, `1.2`, `600`."""
    return f"{value:.3g}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def completeness(summary: DataSummary) -> str:
    """How many clips are here, next to the published count."""
    listed = summary.accepted + summary.rejected if summary.listed is None else summary.listed
    published = summary.facts.published_clips
    taken = f"{_count(summary.accepted, 'clip')} accepted"
    if published is None:
        return f"{taken} of {listed:,} listed; the publisher gives no count"
    if listed == published:
        return f"{taken} of {listed:,} listed, which is the published count"
    return f"{taken} of {listed:,} listed; the published count is {published:,} ({listed - published:+,})"


def check_text(check: LeakCheck) -> str:
    """The outcome of a check in words."""
    if check.state == "unknown":
        return f"claimed, cannot be checked: {check.why}"
    if check.state == "holds":
        return "claimed, holds"
    if check.state == "none":
        return "not claimed, none found"
    claimed = "claimed, broken" if check.state == "broken" else "not claimed"
    found = {
        "audio": _count(check.found, "group of copies", "groups of copies"),
        "near_audio": _count(check.found, "group of near copies", "groups of near copies"),
        "recording": _count(check.found, "recording"),
        "speaker": _count(check.found, "speaker"),
    }[check.what]
    return f"{claimed}: {found}, {_count(check.clips, 'clip')}"


def write_dataset_card(
    markdown: Path,
    *,
    dataset: str,
    facts: Mapping[str, Any],
    clips: Path,
    rejected: Path,
    classes: Path,
    leaks: Path | None = None,
    manifest: Path | None = None,
    published: Comparison | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the card of a dataset.

    Args:
        markdown: file to write.
        dataset: id of the dataset in the config.
        facts: what its publisher says, see `foley.report.data_summary.Facts`.
        clips, rejected, classes, leaks, manifest: its tables.
        published: how its files compare with the checksums that are published for each clip.
        provenance: what is recorded of the run; the rule's name goes to the card's end.
    """
    summary = summarise(
        DatasetTables(dataset, clips, rejected, classes, leaks=leaks, manifest=manifest, facts=facts)
    )
    text = render_card(summary, published, provenance or {})
    with tables.atomic_file(markdown) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def render_card(
    summary: DataSummary,
    published: Comparison | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """A summary as Markdown."""
    parts = [
        _head(summary),
        _clips(summary),
        _leaks(summary),
        _sides(summary),
        _classes(summary),
        _rejected(summary),
        _files(summary, published),
    ]
    rule = (provenance or {}).get("rule")
    made = f"Made by foley{f', rule {plain(rule)}' if rule else ''}. Paths are below the dataset's folder."
    return "\n".join([line for part in parts for line in part] + ["---", "", made, ""])


def _head(s: DataSummary) -> list[str]:
    rows = [("dataset", plain(s.dataset)), ("clips", completeness(s)), ("licence", plain(s.facts.licence))]
    if s.facts.url:
        rows.append(("home", _link(s.facts.url)))
    if s.facts.citation:
        rows.append(("citation", _linked(s.facts.citation)))
    if s.facts.by_hand:
        rows.append(("how to get it", _linked(s.facts.by_hand)))
    return [f"# {plain(s.facts.title)}", "", *_table(("", ""), rows)]


def _clips(s: DataSummary) -> list[str]:
    def shares(pairs: Sequence[tuple[int, int]], unit: str) -> str:
        return ", ".join(f"{value:,}{unit} ({_count(count, 'clip')})" for value, count in pairs) or "unknown"

    rows = [
        ("audio", f"{s.hours:.2f} h"),
        (
            "shortest, median, longest",
            f"{', '.join(seconds(v) for v in (s.shortest_s, s.median_s, s.longest_s))} s",
        ),
        ("recordings", f"{s.recordings:,}"),
        ("raw sample rate", shares(s.source_rates, " Hz")),
        ("raw channels", shares(s.source_channels, "")),
        ("stored", f"{', '.join(f'{rate:,} Hz' for rate in s.stored_rates_hz) or '–'}, mono, 16 bit"),
    ]
    if s.clips_per_speaker is not None:
        least, median, most = s.clips_per_speaker
        unknown = f"; {_count(s.without_speaker, 'clip')} without a speaker" if s.without_speaker else ""
        rows.append(
            ("speakers", f"{s.speakers:,}, with {least:,} to {most:,} clips (median {median:g}){unknown}")
        )
    lines = ["## Clips", "", *_table(("", ""), rows)]
    if s.histogram:
        lines += ["### Durations", ""]
        most_clips = max(count for _, _, count in s.histogram)
        bars = [
            (f"{seconds(low)} to {seconds(high)}", f"{count:,}", _bar(count, most_clips))
            for low, high, count in s.histogram
        ]
        lines += _table(("seconds", "clips", ""), bars, numbers=(1,))
    return lines


def _bar(count: int, most: int) -> str:
    return "█" * max(round(_BAR * count / most), 1) if count else ""


def _classes(s: DataSummary) -> list[str]:
    named = [row.clips for row in s.balance]
    lines = ["## Classes", ""]
    if named:
        per = f"{min(named):,}" if min(named) == max(named) else f"{min(named):,} to {max(named):,}"
        lines += [f"{_count(len(named), 'class', 'classes')}, {per} clips each.", ""]
    if s.labels_per_clip:
        lines += ["A clip may have several labels and counts for each of its classes.", ""]
        lines += _table(
            ("labels of a clip", "clips"),
            [(n, f"{count:,}") for n, count in s.labels_per_clip],
            numbers=(0, 1),
        )
    most = max(named, default=0)
    rows = [
        (
            plain(c.label),
            f"{c.clips:,}",
            f"{c.recordings:,}",
            f"{c.minutes:.1f}",
            _bar(c.clips, most) if most else "",
        )
        for c in s.balance
    ]
    lines += ["<details><summary>Class balance</summary>", ""]
    lines += _table(("class", "clips", "recordings", "minutes", ""), rows, numbers=(1, 2, 3))
    lines += ["</details>", ""]
    if s.hierarchy:
        lines += ["### Hierarchy", ""]
        below = [(plain(parent), ", ".join(map(plain, children))) for parent, children in s.hierarchy]
        lines += _table(("group or class", "classes right below it"), below)
    return lines


def _sides(s: DataSummary) -> list[str]:
    lines = []
    for between in BETWEENS:
        sides = s.sides[between]
        if not sides:
            continue
        lines += [f"## {between.capitalize()}s", ""]
        with_speakers = s.speakers > 0
        head = (between, "clips", "hours", "recordings", *(["speakers"] if with_speakers else []))
        rows = [
            (
                plain(side.name),
                f"{side.clips:,}",
                f"{side.hours:.2f}",
                f"{side.recordings:,}",
                *([f"{side.speakers:,}"] if with_speakers else []),
            )
            for side in sides
        ]
        lines += _table(head, rows, numbers=range(1, len(head)))
        if s.unplaced[between]:
            lines += [f"{_count(s.unplaced[between], 'clip')} without a {between}.", ""]
        rows = [
            (plain(c.label), *(f"{side.per_class.get(c.label, 0):,}" for side in sides)) for c in s.balance
        ]
        lines += ["<details><summary>Clips of each class</summary>", ""]
        lines += _table(("class", *(plain(side.name) for side in sides)), rows, range(1, len(sides) + 1))
        lines += ["</details>", ""]
    return lines


def _leaks(s: DataSummary) -> list[str]:
    lines = ["## Leaks", ""]
    if s.leak_state == "unchecked":
        return [*lines, "There are no folds or splits to leak across.", ""]
    rows = [(WHAT_NAMES[c.what], f"{c.between}s", check_text(c)) for c in s.leak_checks]
    lines += _table(("what", "between", "result"), rows)
    lines += [
        f"Near-equal audio is of similar length, and its hashes differ in at most {NEAR_BITS} of 256 bits.",
        "",
    ]
    if s.without_hash:
        lines += [
            f"{_count(s.without_hash, 'clip')} without such a hash (nothing changes in them) were not compared.",
            "",
        ]
    for between, count in s.removed_duplicates.items():
        if count:
            were = "was refused as a duplicate" if count == 1 else "were refused as duplicates"
            lines += [
                f"{_count(count, 'clip')} {were} of one in another {between}; the published data hold them.",
                "",
            ]
    if s.leak_rows:
        worst = [
            (
                WHAT_NAMES[row["what"]],
                plain(row["key"]) if row["what"] in ("recording", "speaker") else "",
                f"{row['between']}s {', '.join(map(plain, row['sides']))}",
                f"{row['clips']:,}",
                ", ".join(map(plain, row["clip_ids"][:6])) + (", …" if row["clips"] > 6 else ""),
            )
            for row in s.leak_rows[:_CARD_LEAKS]
        ]
        if s.leaks > len(worst):
            lines += [f"The worst {len(worst)} of {s.leaks:,}; `leaks.parquet` holds all.", ""]
        lines += _table(("what", "which", "in", "clips", "among them"), worst, numbers=(3,))
    return lines


def _rejected(s: DataSummary) -> list[str]:
    lines = ["## Rejected clips", ""]
    if not s.rejected:
        return [*lines, "None.", ""]
    lines += [f"{s.rejected:,} of {s.rejected + s.accepted:,}.", ""]
    rows = [
        (
            plain(reason.name),
            f"{reason.count:,}",
            "<br>".join(
                ": ".join(plain(text) for text in (row["source"], row["detail"]) if text)
                for row in reason.examples
            ),
        )
        for reason in s.reasons
    ]
    return [*lines, *_table(("reason", "clips", "for example"), rows, numbers=(1,))]


def _files(s: DataSummary, published: Comparison | None) -> list[str]:
    lines = []
    if s.facts.sources:
        rows = [
            (plain(file.name), readable(file.size_bytes), plain(file.checksum or "none"))
            for file in s.facts.sources
        ]
        lines += _table(("file", "size", "published checksum"), rows, numbers=(1,))
    if published is not None:
        lines += [_compared(published), ""]
    return ["## Files", "", *lines] if lines else []


def _compared(published: Comparison) -> str:
    if published.not_checked is not None:
        return f"Clip by clip: not checked ({plain(published.not_checked)})."
    line = (
        f"Clip by clip: {published.matching:,} of {_count(published.published, 'file')} are the published ones "
        f"({plain(published.index or '')}), {published.different:,} differ, {published.missing:,} are missing"
    )
    names = [*published.different_names, *published.missing_names][:5]
    return line + (f", for example {', '.join(plain(name) for name in names)}." if names else ".")
