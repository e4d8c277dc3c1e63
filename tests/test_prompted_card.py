"""The card of a synthetic set: metadata that the hub reads, licence, counts, and strings that stay strings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from foley import tables
from foley.generators.audio.published import LICENCES, PUBLISHED
from foley.options import ConfigError, parse_options
from foley.report.synthetic_card import SyntheticSet, render_synthetic_card, write_synthetic_card
from foley.tables.audio_studies import GENERATION_COST, REJECTED_SYNTHETIC, SYNTHETIC_CLIPS
from foley.tables.prompts import PROMPTS

HOSTILE = "<script>alert(1)</script> | [x](http://evil.example)\n---\nlicense: mit"


def synthetic_set(
    folder: Path,
    model: str = "facebook/audiogen-medium",
    *,
    label: str = "dog",
    text: str = "a dog",
    **more: Any,
) -> SyntheticSet:
    """Three clips in two shards, and one that was refused."""
    row = {
        "class_id": 0, "label": label, "generator": "gen", "model_id": model, "model_revision": "1277dd7",
        "method": "prompted", "sources": [], "prompt_id": "p", "prompt": text, "sampler": "top-k 250", "guidance": 3.0,
        "attempts": 1, "channels": 2, "peak": 0.5, "rms_db": -20.0, "loudness_lufs": -19.0, "seed": 1,
        "duration_s": 1200.0, "sample_rate_hz": 16_000, "audio": {"bytes": b"", "path": "a"},
    }  # fmt: skip
    for shard in range(2):
        rows = [{**row, "clip_id": f"c{shard}{n}"} for n in range(2 - shard)]
        tables.write(folder / f"clips{shard}", SYNTHETIC_CLIPS, rows)
        refused = {
            "clip_id": "r", "class_id": 0, "label": label, "generator": "gen", "method": "prompted", "sources": [],
            "seed": 1, "reason": "silent", "detail": "no sample above 1.0e-09 of full scale", "attempts": 4,
        }  # fmt: skip
        tables.write(folder / f"rejected{shard}", REJECTED_SYNTHETIC, [refused] * shard)
        cost = {
            "device": "a GPU", "generator": "gen", "prompts": "words", "model_id": model, "precision": "float16",
            "clips": 2 - shard, "rejected": shard, "drawn": 3, "audio_s": 1200.0, "seconds": 1800.0,
        }  # fmt: skip
        tables.write(folder / f"cost{shard}", GENERATION_COST, [cost])
    prompt = {
        "class_id": 0, "position": 0, "prompt_id": "p", "label": label, "strategy": "llm", "text": text, "words": [],
        "model": "gemini",
    }  # fmt: skip
    tables.write(folder / "prompts", PROMPTS, [prompt])
    parts = {name: [folder / f"{name}{n}" for n in range(2)] for name in ("clips", "rejected")}
    return SyntheticSet(
        "esc50", "gen", "words", **parts, costs=[folder / f"cost{n}" for n in range(2)],
        prompt_table=folder / "prompts", **more,
    )  # fmt: skip


def head_of(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_says_what_made_the_clips_and_under_which_licence(tmp_path: Path) -> None:
    of = synthetic_set(tmp_path)
    write_synthetic_card(tmp_path / "README.md", of, provenance={"rule": "write_synthetic_card"})
    card = (tmp_path / "README.md").read_text()
    head = head_of(card)
    assert head["license"] == "cc-by-nc-4.0" and "synthetic" in head["tags"]
    assert head["configs"] == [{"config_name": "default", "data_files": "clips/*.parquet"}]
    assert head["size_categories"] == ["n<1K"] and head["task_categories"] == ["audio-classification"]
    for text in (
        "3 clips (1 h) of 1 classes", "AudioGen medium", "1277dd7", "<https://arxiv.org/abs/2209.15352>", "float16",
        "under CC BY-NC 4.0 (<https://creativecommons.org/licenses/by-nc/4.0/>)", "excludes commercial use",
        "t5-large (Apache 2.0)", "1 prompts (llm 1), 1 of them used. Written by gemini.", "the mean of 2 channels",
        "| silent | 1 | r: no sample above 1.0e-09 of full scale |", "1 of 4, each after all its attempts",
        "| a GPU | 1 | 6 | 0.667 |", "| loudness | -19 LUFS | -19 LUFS | -19 LUFS |", "| dog | 3 | 1 |",
        "rule write\\_synthetic\\_card",
    ):  # fmt: skip
        assert text in card, text


def test_each_published_model_has_its_licence() -> None:
    for model, known in PUBLISHED.items():
        family = "Stability" if "stable" in model else "SA" if "audioldm" in model else "BY-NC 4"
        assert family in known.licence.name and known.licence in LICENCES.values()
        assert known.revision is None or re.fullmatch(r"[0-9a-f]{40}", known.revision)


@pytest.mark.parametrize(
    ("model", "given", "wanted", "text"),
    [
        ("cvssp/audioldm2-large", None, "cc-by-nc-sa-4.0", "excludes commercial use"),
        ("stabilityai/stable-audio-open-1.0", None, "other", "Stability AI Community License"),
        ("noise", None, "cc0-1.0", "No model made these clips"),
        ("/home/me/models/mine", None, "unknown", "The licence of mine is unknown"),
        ("models/mine", "mit", "mit", "are under mit"),
        ("facebook/audiogen-medium", "cc0-1.0", "cc-by-nc-4.0", "excludes commercial use"),
    ],
)
def test_licences_of_other_models(
    tmp_path: Path, model: str, given: str | None, wanted: str, text: str
) -> None:
    card = render_synthetic_card(synthetic_set(tmp_path, model, licence=given))
    head = head_of(card)
    assert head["license"] == wanted and text in card and "/home" not in card
    if wanted == "other":
        assert head["license_name"] == "Stability AI Community License" and head["license_link"].startswith(
            "https"
        )


def test_an_option_does_not_change_the_licence_of_a_published_model() -> None:
    from foley.generators.audio.audiogen import AudioGen
    from foley.generators.audio.audioldm2 import AudioLDM2

    for model in ("facebook/audiogen-medium", "Facebook/AudioGen-Medium"):
        with pytest.raises(ConfigError, match=r"licence 'cc0-1.0' is not that of .*CC BY-NC 4\.0"):
            parse_options(AudioGen.Options, {"model": model, "licence": "cc0-1.0"}, "here")
    with pytest.raises(ConfigError, match="licence 'mit' is not that of cvssp/audioldm2"):
        parse_options(AudioLDM2.Options, {"licence": "mit"}, "here")  # the model by default
    same = parse_options(AudioGen.Options, {"licence": "cc-by-nc-4.0"}, "here")
    mine = parse_options(AudioGen.Options, {"model": "models/mine", "licence": "mit"}, "here")
    assert (same.licence, mine.licence) == ("cc-by-nc-4.0", "mit")


def test_strings_of_data_and_language_models_stay_strings(tmp_path: Path) -> None:
    card = render_synthetic_card(synthetic_set(tmp_path, model=HOSTILE, label=HOSTILE, text=HOSTILE))
    # Nor a link: its brackets are escaped.
    assert "<script" not in card and not re.search(r"[^\\]\]\(http", card)
    assert head_of(card)["license"] == "unknown"
    assert not re.search(r"^license: mit", card, re.MULTILINE)
    assert len(re.findall(r"^---$", card, re.MULTILINE)) == 3  # around the head, and above the last line


def test_shards_of_two_models_are_no_set(tmp_path: Path) -> None:
    of = synthetic_set(tmp_path)
    other = synthetic_set(tmp_path / "other", "cvssp/audioldm2")
    mixed = SyntheticSet(
        "esc50", "gen", "words", [*of.clips, *other.clips], of.rejected, of.costs, of.prompt_table
    )
    with pytest.raises(ValueError, match="are of several models"):
        render_synthetic_card(mixed)
