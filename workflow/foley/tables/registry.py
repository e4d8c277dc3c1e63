"""Every kind of table by name, for the docs. Jobs import the schemas that they need, not this list."""

from __future__ import annotations

from foley.tables import TableKind
from foley.tables.audio_studies import (
    AUDIO_PARTITION,
    AUDIO_QUALITY,
    GENERATION_COST,
    PROBE_EMBEDDINGS,
    PROMPTED,
    RECOGNISED,
    REJECTED_SYNTHETIC,
    SYNTHETIC_CLIPS,
)
from foley.tables.classes import CLASS_VECTORS, CLASSES, MISSING_WORDS
from foley.tables.clips import AUDIO, CLIPS, LEAKS, RAW_CLASSES, RAW_CLIPS, REJECTED
from foley.tables.diverse import CHUNK_EMBEDDINGS, CLIP_SCORES, LABELLED_CLIPS
from foley.tables.features import EMBEDDINGS, FEATURES, FRAMES, HISTORY
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE, MIX_CLIPS
from foley.tables.learning_curve import LEARNING_CURVE
from foley.tables.prompts import LLM_REQUESTS, PROMPTS, REJECTED_PROMPTS
from foley.tables.report import EMBEDDING_MAP, GALLERY
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.speech import BACKGROUNDS, KEPT_APART, SPEECH_PARTITION, SPEECH_SCORES
from foley.tables.variance import SEED_GRID
from foley.tables.zero_shot import PARTITION, PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS

KINDS: dict[str, TableKind] = {
    kind.name: kind
    for kind in (
        RAW_CLIPS, RAW_CLASSES, CLASSES, CLIPS, AUDIO, REJECTED, LEAKS, FEATURES, EMBEDDINGS, HISTORY,
        CLASS_VECTORS, MISSING_WORDS, PARTITION, SYNTHETIC_EMBEDDINGS, PROJECTED_EMBEDDINGS, PREDICTIONS, SCORES,
        LEARNING_CURVE, SEED_GRID, AUDIO_PARTITION, PROMPTS, LLM_REQUESTS, REJECTED_PROMPTS, SYNTHETIC_CLIPS,
        REJECTED_SYNTHETIC, GENERATION_COST, RECOGNISED, PROBE_EMBEDDINGS, PROMPTED, AUDIO_QUALITY,
        CLASS_CHOICE, MIX_CHOICE, MIX_CLIPS, COSTS, FRAMES, LABELLED_CLIPS, CHUNK_EMBEDDINGS, CLIP_SCORES,
        SPEECH_PARTITION, BACKGROUNDS, SPEECH_SCORES, KEPT_APART, EMBEDDING_MAP, GALLERY,
    )
}  # fmt: skip


def describe() -> str:
    """docs/tables.md: every kind with its columns, made from the schemas themselves."""
    lines = [
        "# Tables",
        "",
        "Made from the schemas in `foley.tables` by `make docs`; a test keeps it so.",
        "",
    ]
    for kind in KINDS.values():
        lines += [f"## {kind.name}", "", f"{kind.doc} Rows are ordered by {', '.join(kind.order_by)}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | `{dtype}` | {doc} |" for name, (dtype, doc) in kind.columns.items()]
        lines.append("")
    return "\n".join(lines)
