"""docs/datasets.md: every dataset kind, made from the kinds themselves."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from foley.datasets.protocol import DatasetKind
from foley.datasets.registry import KINDS
from foley.download.disk import readable
from foley.download.sources import HubSource, Source
from foley.runtime.code import load


def describe() -> str:
    """The page."""
    lines = [
        "# Datasets",
        "",
        "Made from `foley.datasets` by `make docs`; a test keeps it so.",
        "",
        "A dataset's id in the config is its kind, or `kind:` names it. Without `path` Foley downloads it into `data/`",
        "(the key `data`); with `path` nothing is downloaded. `snakemake --dry-run` says what would be fetched and how",
        "large it is. An archive that you fetched yourself is taken from `data/archives/`. `offline: true` opens no",
        "connection and lists files, sizes and places instead.",
        "",
        "A downloaded tree is Foley's: what you change in it by hand goes unnoticed. Point `path` at a tree of your",
        "own, whose content is followed file by file; or delete `data/<kind>/.foley` to fetch it anew. A password",
        "for a server belongs in `~/.netrc`, not in a URL. RAR archives need `unrar`, `unar`, `bsdtar` or `7z`.",
        "",
        "What is known of a kind's classes without hearing them stands in `resources/classes/<kind>.yaml`, or in the",
        "file that the key `classes` names: words, synonyms, graded attributes and, where a name has other meanings,",
        "`banned_senses` with words that betray each (`siren`: `mythical creature: [mermaid*, seduc*]`; `*` is any",
        "ending). No prompt is written with such a word (docs/prompts.md). For a folder of your own:",
        "",
        "```yaml",
        "attributes: [tonal, impulsive] # names of the grades below, if you give any",
        "classes:",
        "  - {id: 0, label: siren, words: [siren], synonyms: [alarm, wail], attributes: [0.9, 0.1]}",
        "  - {id: 1, label: door_knock, words: [knock], synonyms: [door, wood], attributes: [0.1, 1.0]}",
        "```",
        "",
        "Labels are those of the dataset; the first word counts twice in a word vector; grades go from 0 to 1.",
        "`class_vectors.<id>.classes` sets further tables beside the dataset's own, to compare them in one run.",
        "",
        "With the lists of soundata and mirdata beside (`pip install --no-deps 'soundata<1' 'mirdata<1'`), the card",
        "says of ESC-50, UrbanSound8K, FSD50K, TAU 2019 and GTZAN which clips are the published ones, by their MD5.",
        "",
        "*Kept apart* is what the official folds or splits promise not to share; where they share it all the same, the",
        "run ends with an error (`datasets.<id>.leaks: report` goes on). `leaks.parquet` and the card hold what was",
        "found, promised or not.",
        "",
        "| kind | dataset | clips | how | licence | kept apart |",
        "|---|---|---|---|---|---|",
    ]
    kinds: dict[str, Any] = {name: load(target)() for name, target in sorted(KINDS.items())}
    for name, kind in kinds.items():
        claims = ", ".join(f"{what} by {between}" for what, between in sorted(kind.claims))
        clips = f"{kind.published_clips:,}" if kind.published_clips else ""
        lines.append(
            f"| [`{name}`](#{name}) | {kind.title} | {clips} | {_how(kind)} | {kind.licence} | {claims} |"
        )
    for name, kind in kinds.items():
        lines += ["", f"## {name}", "", *_section(kind)]
    return "\n".join(lines) + "\n"


def _how(kind: DatasetKind) -> str:
    if kind.generated:
        return "synthesised"
    if kind.sources():
        return f"download, {readable(sum(source.size_bytes or 0 for source in kind.sources()))}"
    return "by hand" if kind.by_hand else "your own"


def _section(kind: DatasetKind) -> list[str]:
    lines = [(type(kind).__doc__ or "").strip().replace("\n    ", "\n")]
    if kind.url:
        lines += ["", f"<{kind.url}>" + (f". {kind.citation}" if kind.citation else "")]
    if kind.by_hand:
        lines += ["", f"**By hand:** {kind.by_hand}"]
    options = fields(kind.Options)  # type: ignore[arg-type]
    if options:
        lines += ["", "| option | type | default |", "|---|---|---|"]
        for option in options:
            default = "**required**" if option.default is MISSING else f"`{option.default!r}`"
            # A bar in a type would end the table's cell.
            text = str(option.type).replace("|", "\\|")
            lines.append(f"| `{option.name}` | `{text}` | {default} |")
    files = [file for source in kind.sources() if isinstance(source, Source) for file in source.files]
    hubs = [source for source in kind.sources() if isinstance(source, HubSource)]
    if files:
        lines += ["", "| file | size | checksum |", "|---|---|---|"]
        lines += [
            f"| <{file.url}> | {readable(file.size_bytes)} | `{file.checksum or 'none published'}` |"
            for file in files
        ]
    lines += [f"Repository `{hub.repo}` at `{hub.revision}`." for hub in hubs]
    return lines
