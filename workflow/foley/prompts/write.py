"""Write the prompts of a dataset's classes, and all that was asked, answered and refused on the way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foley import tables
from foley.classes.describe import read_classes
from foley.classes.table import read_class_table
from foley.prompts.protocol import ClassBrief, Progress, PromptWriter, Setting
from foley.prompts.templates import read_instructions, read_templates
from foley.tables.prompts import LLM_REQUESTS, PROMPTS, REJECTED_PROMPTS

log = logging.getLogger(__name__)


def briefs_of(classes: Path, class_table: Path | None) -> list[ClassBrief]:
    """What is known of each class.

    Args:
        classes: `foley.tables.classes.CLASSES`.
        class_table: YAML (see `foley.classes.table`), for the banned senses of a class.
    """
    known = read_class_table(class_table).classes if class_table is not None else ()
    senses = {info.label: info.banned_senses for info in known}
    return [
        ClassBrief(info.class_id, info.label, info.synonyms, senses.get(info.label, ()))
        for info in read_classes(classes).classes
    ]


def write_prompts(
    out_prompts: Path,
    out_requests: Path,
    out_rejected: Path,
    *,
    writer: type[PromptWriter],
    options: Any,
    where: str,
    classes: Path,
    class_table: Path | None,
    dataset_kind: str,
    templates: Path,
    instructions: Path,
    cache: Path,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the three tables. They are the same whether answers came just now or from the cache.

    Args:
        writer: a kind of `foley.prompts.registry.KINDS`, with its ``options``.
        where: key of the options in the config, for errors.
        classes: the classes of the dataset (`foley.tables.classes.CLASSES`).
        class_table: the dataset's class table, for banned senses, if it has one.
        templates, instructions: `resources/prompts/{templates,instructions}.yaml`.
        cache: folder of answers that were paid for; outlives the outputs of the rule.
        provenance: must not hold what changes no prompt (the limits of a language model).

    Raises:
        ValueError: a class without a prompt, a file that is wrong, no key, a budget that is spent. Nothing is written,
            and answers that came are kept.
    """
    briefs = briefs_of(classes, class_table)
    setting = Setting(where, read_templates(templates, dataset_kind), read_instructions(instructions), cache)
    written = writer(options, setting).write(briefs, progress)
    having = {prompt.class_id for prompt in written.prompts}
    lacking = [brief.label for brief in briefs if brief.class_id not in having]
    if lacking:
        raise ValueError(f"classes without a prompt: {lacking}")

    requests = [asdict(exchange) for exchange in written.exchanges]
    tables.write(out_requests, LLM_REQUESTS, requests, provenance)
    counts: Counter[int] = Counter()
    rejected = []
    for text in written.rejected:
        rejected.append({**asdict(text), "number": counts[text.class_id]})
        counts[text.class_id] += 1
    tables.write(out_rejected, REJECTED_PROMPTS, rejected, provenance)
    tables.write(
        out_prompts,
        PROMPTS,
        [
            {**asdict(prompt), "words": list(prompt.words), "prompt_id": prompt.prompt_id}
            for prompt in written.prompts
        ],
        provenance,
    )
    log.info(
        "%d prompts of %d classes; refused: %s",
        len(written.prompts),
        len(briefs),
        dict(Counter(row["reason"] for row in rejected).most_common()) or "none",
    )
