"""Prompted generators, loaded by their real loading code from tiny checkpoints in the published formats."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foley.generators.audio.prompted import (
    NO_MATTER,
    PretrainedGenerator,
    PromptedOptions,
    Ranking,
    dtype_of,
    folder_of,
    plan_batches,
)
from foley.generators.audio.published import PUBLISHED, pinned
from foley.generators.registry import PROMPTED_KINDS
from foley.options import ConfigError, parse_options
from foley.runtime.code import load
from tiny_audiocraft import write_tiny_audiocraft
from tiny_audioldm import write_tiny_audioldm, write_tiny_audioldm2, write_tiny_stable_audio

DURATION_S = 0.2
PROMPTS = ["a dog sound", "rain", "cat", "a dog sound", "a long and rainy day"]
SEEDS = [1, 2, 3, 4, 2**62]
WRITERS: dict[str, Callable[[Path], Path]] = {
    "audiogen": write_tiny_audiocraft,
    "musicgen": lambda folder: write_tiny_audiocraft(folder, channels=2),
    "audioldm": write_tiny_audioldm,
    "audioldm2": write_tiny_audioldm2,
    "stable_audio": write_tiny_stable_audio,
}
STEPS = {"audioldm": {"steps": 2}, "audioldm2": {"steps": 2}, "stable_audio": {"steps": 3}}
# What float32 rounds otherwise in batches of another size; another token or another noise would differ by 0.05 or more.
ROUNDING = {"noise": 0.0, "audiogen": 1e-5, "musicgen": 1e-5, "stable_audio": 1e-5}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a kind's tiny checkpoint, written once."""
    folders: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = WRITERS[kind](tmp_path_factory.mktemp("models") / kind)
        return folders[kind]

    return get


Make = Callable[..., Any]


@pytest.fixture(scope="session")
def make(checkpoint: Callable[[str], Path]) -> Make:
    """A loaded generator of a kind; the one with default options is loaded once."""
    loaded: dict[str, Any] = {}

    def get(kind: str, **options: Any) -> Any:
        if not options and kind in loaded:
            return loaded[kind]
        given = {"batch_size": 3, "duration_s": DURATION_S, **STEPS.get(kind, {}), **options}
        if kind in WRITERS:
            given.setdefault("model", str(checkpoint(kind)))
        target = load(PROMPTED_KINDS[kind])
        made = target(parse_options(target.Options, given, "options"))
        if not options:
            loaded[kind] = made
        return made

    return get


@pytest.mark.parametrize("kind", PROMPTED_KINDS)
def test_a_clip_depends_on_its_prompt_and_seed_alone(kind: str, make: Make) -> None:
    generator = make(kind)
    made = generator.generate(PROMPTS, SEEDS, DURATION_S)
    channels = 2 if kind in ("musicgen", "stable_audio") else 1
    assert made.shape == (5, channels, round(DURATION_S * generator.sample_rate_hz))
    assert made.dtype == torch.float32 and made.isfinite().all()
    close = {"atol": ROUNDING.get(kind, 2e-5), "rtol": 0.0}
    order = [4, 2, 0, 1, 3]
    turned = generator.generate([PROMPTS[n] for n in order], [SEEDS[n] for n in order], DURATION_S)
    torch.testing.assert_close(turned, made[order], **close)
    for number in range(5):
        alone = generator.generate([PROMPTS[number]], [SEEDS[number]], DURATION_S)[0]
        torch.testing.assert_close(alone, made[number], **close)
    # The same batches give the same bits.
    assert torch.equal(generator.generate(PROMPTS, SEEDS, DURATION_S), made)
    # Of one prompt and two seeds, and of one seed and two prompts.
    assert (made[0] - made[3]).abs().max() > 0.02
    other = generator.generate([PROMPTS[2]], [SEEDS[0]], DURATION_S)[0]
    difference = float((other - made[0]).abs().max())
    assert difference == 0 if kind == "noise" else difference > 1e-3


@pytest.mark.parametrize("kind", ["audiogen", "audioldm2"])
def test_padding_would_change_a_clip_so_prompts_of_a_batch_have_one_length(kind: str, make: Make) -> None:
    generator = make(kind)
    short, long = "rain", "a long and rainy day"
    assert generator.lengths([short])[0] < generator.lengths([long])[0]
    with torch.no_grad():
        alone = generator.draw([short], [1], DURATION_S)[0]
        padded = generator.draw([short, long], [1, 2], DURATION_S)[0]
    assert (alone - padded).abs().max() > 1e-3
    torch.testing.assert_close(
        generator.generate([long, short], [2, 1], DURATION_S)[1], alone.cpu(), atol=2e-5, rtol=0.0
    )


@given(st.lists(st.integers(1, 6), max_size=40), st.integers(1, 9))
def test_batches_hold_every_row_once_and_one_length_each(lengths: list[int], batch_size: int) -> None:
    batches = plan_batches(lengths, batch_size)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len({lengths[row] for row in batch}) == 1 and len(batch) <= batch_size for batch in batches)
    # As few as can be.
    assert len(batches) == sum(-(-lengths.count(length) // batch_size) for length in set(lengths))


# Against the libraries


@pytest.mark.parametrize("kind", ["audiogen", "musicgen"])
def test_the_likeliest_tokens_are_those_that_audiocraft_takes(kind: str, make: Make) -> None:
    generator = make(kind, top_k=1)
    ours = generator.generate(PROMPTS[:1], [5], DURATION_S)
    model = generator._model
    model.set_generation_params(use_sampling=False, duration=DURATION_S, extend_stride=1.0, cfg_coef=3.0)
    torch.testing.assert_close(model.generate(PROMPTS[:1], progress=False), ours)


@pytest.mark.parametrize("kind", ["audioldm", "audioldm2", "stable_audio"])
def test_a_clip_is_what_diffusers_makes_of_prompt_and_seed(kind: str, make: Make) -> None:
    generator = make(kind)
    how = {
        "num_inference_steps": STEPS[kind]["steps"],
        "guidance_scale": generator.options.guidance,
        "generator": torch.Generator().manual_seed(7),
        "audio_end_in_s" if kind == "stable_audio" else "audio_length_in_s": DURATION_S,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.as_tensor(generator._pipeline("rain", **how).audios)[0]
    ours = generator.generate(["rain"], [7], DURATION_S)[0]
    torch.testing.assert_close(ours, theirs.reshape(ours.shape), atol=1e-6, rtol=0.0)


def test_gpt2_is_read_as_published_checkpoints_name_it(checkpoint: Any, make: Make) -> None:
    index = (checkpoint("audioldm2") / "model_index.json").read_text()
    assert '"GPT2Model"' in index
    assert type(make("audioldm2")._pipeline.language_model).__name__ == "GPT2LMHeadModel"


# Choosing tokens


def draws(seeds: Sequence[int]) -> Any:
    from foley.generators.audio.audiocraft_models import Draws

    return Draws(seeds)


def test_tokens_are_chosen_by_their_probabilities() -> None:
    weights = torch.tensor([0.0, 4.0, 0.0, 1.0, 3.0, 0.0])
    rows, steps = 50, 200
    chosen = draws(range(rows))
    found = torch.cat([chosen.multinomial(weights.expand(rows, 2, 6), 1) for _ in range(steps)])
    shares = torch.bincount(found.flatten(), minlength=6) / found.numel()
    assert shares[weights == 0].sum() == 0
    # Three standard deviations of a share among 20,000.
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=3 * (0.25 / found.numel()) ** 0.5)


def test_a_rows_tokens_do_not_depend_on_the_others() -> None:
    weights = torch.rand(5, 4, 30, generator=torch.Generator().manual_seed(0))
    together, alone, last = draws([1, 2, 3, 4, 5]), draws([3]), draws([5, 3])
    for _ in range(130):  # numbers are drawn ahead, some 60 steps at once
        one = together.multinomial(weights, 1)
        assert torch.equal(one[2:3], alone.multinomial(weights[2:3], 1))
        assert torch.equal(one[2:3], last.multinomial(weights[[4, 2]], 1)[1:])
    with pytest.raises(RuntimeError, match=r"install audiocraft 1\.3\.0"):
        alone.multinomial(weights, 1)


def test_clips_longer_than_the_model_are_continued(make: Make) -> None:
    generator = make("audiogen", extend_stride_s=2.0)
    assert generator._model.max_duration == 2.5
    made = generator.generate(["rain", "cat"], [1, 2], 2.6)
    assert made.shape[-1] == round(2.6 * 8000) and made.isfinite().all()
    # What comes after the first stretch is drawn, too, and by each clip's own stream.
    assert made[:, 0, -800:].std(1).min() > 1e-3
    torch.testing.assert_close(generator.generate(["cat"], [2], 2.6)[0], made[1], atol=1e-5, rtol=0.0)
    with pytest.raises(ValueError, match=r"extend_stride_s 4 must be below 2\.5 s"):
        make("audiogen", extend_stride_s=4.0).generate(["rain"], [1], 3.0)


# Precision and memory


@pytest.mark.parametrize("kind", ["audiogen", "audioldm2"])
def test_bfloat16_computes_in_bfloat16(kind: str, make: Make) -> None:
    generator = make(kind, precision="bfloat16")
    made = generator.generate(PROMPTS, SEEDS, DURATION_S)
    assert generator.identity()["dtype"] == "torch.bfloat16"
    network = generator._model.lm if kind == "audiogen" else generator._pipeline.unet
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert made.dtype == torch.float32 and made.isfinite().all()
    assert torch.equal(generator.generate(PROMPTS, SEEDS, DURATION_S), made)


def test_half_precision_is_chosen_by_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert dtype_of("auto", cpu, torch.float16) == torch.float32
    assert dtype_of("auto", cuda, torch.float16) == torch.float16
    assert dtype_of("bfloat16", cuda, torch.float16) == torch.bfloat16
    with pytest.raises(ValueError, match="needs a CUDA device"):
        dtype_of("float16", cpu, torch.float16)


class Small(PretrainedGenerator):
    """Counts as one whose memory holds ``room`` clips; a clip is its seed."""

    sample_rate_hz = 10
    room = 2

    def __init__(self, batch_size: int) -> None:
        super().__init__(PromptedOptions(batch_size=batch_size))
        self.batches: list[int] = []

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [len(prompt) for prompt in prompts]

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> torch.Tensor:
        if len(prompts) > self.room:
            raise torch.OutOfMemoryError("full")
        self.batches.append(len(prompts))
        return torch.tensor(seeds, dtype=torch.float32)[:, None, None].expand(-1, 1, 3)


def test_out_of_memory_it_goes_on_with_half_the_batch() -> None:
    generator = Small(12)
    made = generator.generate(["a"] * 7 + ["bb"] * 4, list(range(11)), 1.0)
    assert made[:, 0, 0].tolist() == list(range(11))
    assert generator.batches == [1] * 7 + [1] * 4  # 7 -> 3 -> 1
    assert generator.batch_size == 1
    generator.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        generator.generate(["a"], [0], 1.0)


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        Small(2).generate(["a", "b"], [1], 1.0)
    with pytest.raises(ValueError, match="prompt number 1 is empty"):
        Small(2).generate(["a", " "], [1, 2], 1.0)
    with pytest.raises(ValueError, match="no prompts"):
        Small(2).generate([], [], 1.0)


# Ranking


def test_candidates_are_scored_by_clap_each_for_itself(make: Make) -> None:
    generator = make("audioldm2", candidates=3)
    assert isinstance(generator, Ranking) and generator.candidates() == 3
    assert not isinstance(make("audioldm"), Ranking)
    audio = generator.generate(PROMPTS, SEEDS, DURATION_S)
    scores = generator.scores(PROMPTS, audio)
    assert all(-1 <= score <= 1 for score in scores) and len(set(scores)) == 5
    for number in range(5):
        alone = generator.scores(PROMPTS[number : number + 1], audio[number : number + 1])
        assert alone[0] == pytest.approx(scores[number], abs=1e-5)
    # Similarity of CLAP, from its two halves.
    clap, tokenizer = generator._pipeline.text_encoder, generator._pipeline.tokenizer
    from foley.audio.decode import resample

    heard = generator._pipeline.feature_extractor(
        resample(audio[1, 0].numpy(), generator.sample_rate_hz, 48_000),
        sampling_rate=48_000,
        return_tensors="pt",
    )
    heard["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
    with torch.no_grad():
        logits = clap(**tokenizer(PROMPTS[1], return_tensors="pt"), **heard).logits_per_text
    assert float((logits / clap.logit_scale_t.exp()).detach()) == pytest.approx(scores[1], abs=1e-5)


# Noise


def test_noise_is_of_another_spectrum_and_level_each_time(make: Make) -> None:
    generator = make("noise")
    made = generator.generate(["dog"] * 40, list(range(40)), 1.0)[:, 0]
    level = 10 * made.square().mean(1).log10()
    assert level.min() >= -34.1 and level.max() <= -13.9 and level.std() > 4
    assert made.mean(1).abs().max() < 1e-3
    power = torch.fft.rfft(made).abs().square()
    centre = (power * torch.arange(power.shape[1])).sum(1) / power.sum(1)
    assert centre.std() / centre.mean() > 0.3


# Bad input


@pytest.mark.parametrize("kind", WRITERS)
def test_options_and_their_files_are_checked(kind: str, tmp_path: Path) -> None:
    target = load(PROMPTED_KINDS[kind])
    for wrong in ({"duration_s": 0}, {"attempts": 0}, {"batch_size": 0}, {"max_clipped": 2}, {"sampels": 3}):
        with pytest.raises(ConfigError):
            parse_options(target.Options, wrong, "options")
    with pytest.raises(FileNotFoundError, match=r"lacks .*get the whole checkpoint"):
        target(target.Options(model=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        target(target.Options(model=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"git ls-remote https://huggingface\.co/some/model"):
        target(target.Options(model="some/model"))
    with pytest.raises(ValueError, match="'main' is no commit"):
        target(target.Options(model="some/model", revision="main"))
    assert {"batch_size", "max_rejected", "licence"} <= NO_MATTER


def test_a_hub_model_that_is_not_here_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FOLEY_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = PUBLISHED["facebook/audiogen-medium"].revision
    for kind in ("audiogen", "audioldm2"):
        target = load(PROMPTED_KINDS[kind])
        model = target.Options().model
        with pytest.raises(FileNotFoundError, match=f"hf download {model} --revision {pinned(model, None)}"):
            target(target.Options())
    assert commit == pinned("facebook/audiogen-medium", None)


def test_a_local_folder_wins_over_the_hub(tmp_path: Path) -> None:
    def fetch(model: str, commit: str) -> Path:
        raise AssertionError("nothing is to be fetched")

    assert folder_of(str(tmp_path), None, fetch) == (tmp_path, None)


def test_damaged_and_foreign_checkpoints_are_named(checkpoint: Any, make: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint("audiogen"), tmp_path / "audiogen")
    weights = folder / "state_dict.bin"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is no whole AudioGen checkpoint"):
        make("audiogen", model=str(folder))
    torch.save({"best_state": {}, "xp.cfg": Path("/")}, weights)
    with pytest.raises(ValueError, match="is no whole AudioGen checkpoint"):
        make("audiogen", model=str(folder))
    torch.save({"pretrained": "facebook/encodec_32khz"}, folder / "compression_state_dict.bin")
    with pytest.raises(ValueError, match="names the codec 'facebook/encodec_32khz'"):
        make("audiogen", model=str(folder))
    folder = shutil.copytree(checkpoint("audioldm2"), tmp_path / "audioldm2")
    next((folder / "unet").glob("*.safetensors")).write_bytes(b"no weights")
    with pytest.raises(ValueError, match="is no whole AudioLDM2Pipeline"):
        make("audioldm2", model=str(folder))


def test_the_text_encoder_is_found_wherever_the_job_runs(
    checkpoint: Any, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoint("audiogen"), tmp_path / "audiogen")
    moved = Path(shutil.move(folder / "t5-small", tmp_path / "encoder"))
    (tmp_path / "t5-small").mkdir()  # what audiocraft by itself would read
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="needs the text encoder t5-small, of which no commit is pinned"
    ):
        make("audiogen", model=str(folder))
    found = make("audiogen", model=str(folder), t5=str(moved))
    made = found.generate(PROMPTS[:2], SEEDS[:2], DURATION_S)
    assert torch.equal(make("audiogen").generate(PROMPTS[:2], SEEDS[:2], DURATION_S), made)
    # Weights count by content, wherever they lie.
    assert found.identity() == make("audiogen").identity()
    weights = moved / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    save_file({name: value for name, value in state.items() if "layer_norm" not in name}, weights)
    with pytest.raises(ValueError, match="lacks 3 parameters"):
        make("audiogen", model=str(folder), t5=str(moved))
