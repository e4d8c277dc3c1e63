"""AST and SSAST: the front end against torchaudio's, the published checkpoints' layouts, and that they train."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchaudio.compliance.kaldi import fbank

from foley.augment.protocol import Augmentations, Draws
from foley.augment.spec_augment import SpecAugment, SpecAugmentOptions
from foley.classifiers import audio_protocol
from foley.classifiers.ast import (
    AST,
    SAMPLE_RATE_HZ,
    SpectrogramTransformer,
    TransformerClassifier,
    fit_positions,
)
from foley.classifiers.audio_protocol import AudioClassifier, EndlessShuffle, LabelledClips, TrainingOptions
from foley.classifiers.ssast import SSAST, SSASTOptions, convert
from foley.encoders.kaldi_fbank import KaldiFbank
from foley.options import ConfigError, parse_options
from foley.training.checkpoint import Checkpoint
from tiny_ssast import published_state

# 0.655 s: 64 frames, in pretraining 8 x 4 patches.
SAMPLES = 63 * 160 + 400
PUBLISHED_MASKS = SpecAugmentOptions(
    time_warp=0, frequency_width=24, frequency_masks=1, time_width=96, time_masks=1, max_time_fraction=1.0
)


@pytest.fixture(scope="module")
def ssast_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssast") / "SSAST-Tiny-Patch-400.pth"
    torch.save(published_state(), path)
    return path


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random AST with 527 classes as transformers saves it, with the names of the published checkpoint."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    folder = tmp_path_factory.mktemp("ast")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_length=96,
        num_labels=527,
    )
    model = ASTForAudioClassification(config)
    for value in model.audio_spectrogram_transformer.embeddings.parameters():
        torch.nn.init.normal_(value, 0, 0.1)  # tokens and positions would be zero
    model.save_pretrained(folder)
    ASTFeatureExtractor(max_length=96).save_pretrained(folder)
    return folder


@pytest.fixture
def make(ssast_weights: Path, ast_folder: Path) -> Callable[..., TransformerClassifier]:
    def build(kind: str, classes: int = 3, seed: int = 0, **more: Any) -> TransformerClassifier:
        tiny = {"steps": 6, "batch_size": 8, "validate_every_steps": 2, "frames": 40, "learning_rate": 1e-3}
        if kind == "ssast":
            return SSAST(
                SSAST.Options(**{**tiny, "weights": str(ssast_weights), "heads": 4, **more}), classes, seed
            )
        return AST(AST.Options(**{**tiny, "model": str(ast_folder), "revision": None, **more}), classes, seed)

    return build


KINDS = ["ssast", "ast"]


def clips(count: int, seed: int = 0, samples: int = 8000) -> LabelledClips:
    """Low, soft tones, high tones and hiss."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    time = np.arange(samples) / SAMPLE_RATE_HZ
    low = 0.1 * np.sin(2 * np.pi * generator.uniform(150, 300, (count, 1)) * time)
    high = np.sin(2 * np.pi * generator.uniform(3000, 6000, (count, 1)) * time)
    kinds = np.stack([low, high, generator.normal(size=(count, samples))])[labels, np.arange(count)]
    waveforms = 0.2 * kinds + 0.001 * generator.normal(size=kinds.shape)
    ids = [f"{seed}-{number}" for number in range(count)]
    return LabelledClips(
        torch.from_numpy(waveforms.astype(np.float32)), torch.from_numpy(labels), ids, SAMPLE_RATE_HZ
    )


# Front end


def test_fbank_is_kaldis() -> None:
    time = torch.arange(12_345) / SAMPLE_RATE_HZ
    noise = torch.rand(12_345, generator=torch.Generator().manual_seed(0)) - 0.5
    batch = torch.stack(
        [
            noise,
            0.3 * torch.sin(6.28 * 1000 * time),
            1e-3 * noise,
            torch.zeros_like(noise),
            torch.sin(9e3 * time**2) + 0.2,
        ]
    )
    found = KaldiFbank()(batch)
    for clip, energies in zip(batch, found, strict=True):
        wanted = fbank(
            clip[None], htk_compat=True, sample_frequency=SAMPLE_RATE_HZ, use_energy=False, window_type="hanning",
            num_mel_bins=128, dither=0.0, frame_shift=10,
        )  # fmt: skip
        assert energies.shape == wanted.shape == (75, 128)
        torch.testing.assert_close(energies, wanted, rtol=0, atol=1e-4)
    assert KaldiFbank().samples(75) <= 12_345 < KaldiFbank().samples(76)


def test_features_are_scaled_as_published(make: Callable[..., TransformerClassifier]) -> None:
    clip = clips(1, samples=5_000).waveforms
    energies = fbank(clip - clip.mean(), window_type="hanning", num_mel_bins=128)
    zeros = make("ssast", padding="zeros").build().features(clip)
    wanted = (functional.pad(energies, (0, 0, 0, 40 - len(energies))) + 6.6268077) / (2 * 5.358466)
    torch.testing.assert_close(zeros[0], wanted, rtol=0, atol=1e-3)
    silence = make("ssast").build().features(clip)
    assert torch.equal(silence[:, : len(energies)], zeros[:, : len(energies)])
    # Frames behind the clip hold no energy, and its score depends on nothing but the clip.
    assert silence[0, -1].max() == silence.min() < 0 < zeros[0, -1].min()
    longer = functional.pad(clip, (0, 3_000))
    assert torch.equal(make("ssast").build().features(longer), silence)
    network = make("ast").build()
    assert network.mean.unique().tolist() == pytest.approx([-4.2677393])
    assert network.deviation.unique().tolist() == pytest.approx([2 * 4.5689974])


def test_published_masks() -> None:
    x = torch.ones(400, 512, 128)
    masked = (
        SpecAugment(PUBLISHED_MASKS).change_features(x, Draws(0, [str(n) for n in range(400)], [0] * 400))
        == 0
    )
    mels, frames = masked.all(dim=1).sum(1), masked.all(dim=2).sum(1)
    # Masks of one band each, of every width up to 24 and 96.
    assert mels.max() == 24 and frames.min() == 0 and 90 < frames.max() <= 96
    assert mels.float().mean().item() == pytest.approx(12, abs=1.5)
    assert frames.float().mean().item() == pytest.approx(48, abs=6)


# SSAST's checkpoints


def timm_tokens(
    state: dict[str, Tensor], patches: Tensor, positions: Tensor, depth: int, heads: int
) -> Tensor:
    """timm's distilled vision transformer, written out: patches [B, N, D] -> normed tokens [B, 2 + N, D]."""
    get = {name.removeprefix("module."): value for name, value in state.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ get[f"{name}.weight"].T + get[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * get[f"{name}.weight"] + get[f"{name}.bias"]

    x = torch.cat(
        [
            get["v.cls_token"].expand(len(patches), -1, -1),
            get["v.dist_token"].expand(len(patches), -1, -1),
            patches,
        ],
        1,
    )
    x = x + positions
    for number in range(depth):
        block = f"v.blocks.{number}"
        q, k, v = (
            linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
            .unflatten(2, (3, heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(3)
        x = x + linear(f"{block}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
        hidden = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        x = x + linear(f"{block}.mlp.fc2", 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5)))
    return norm("v.norm", x)


@pytest.mark.parametrize(("frames", "time_stride"), [(40, 10), (130, 10), (64, 16)])
def test_ssast_computes_what_the_published_network_does(
    frames: int, time_stride: int, ssast_weights: Path, make: Callable[..., TransformerClassifier]
) -> None:
    stride = {"frequency_stride": time_stride, "time_stride": time_stride}
    network = make("ssast", frames=frames, **stride).build().eval()
    state = published_state()
    assert {name: v.shape for name, v in torch.load(ssast_weights).items()} == {
        n: v.shape for n, v in state.items()
    }
    features = torch.randn(2, frames, 128, generator=torch.Generator().manual_seed(1))
    kernel, bias = state["module.v.patch_embed.proj.weight"], state["module.v.patch_embed.proj.bias"]
    maps = functional.conv2d(
        features.transpose(1, 2).unsqueeze(1), kernel.contiguous(), bias, stride=time_stride
    )
    mels, steps = maps.shape[2:]
    assert (mels, steps) == ((8, 4) if time_stride == 16 else (12, (frames - 16) // 10 + 1))
    # Position embeddings as the authors fit them: time cut from the middle or stretched, then frequency.
    old = state["module.v.pos_embed"][:, 2:].transpose(1, 2).reshape(1, 32, 8, 4)
    if steps < 4:
        old = old[..., 2 - steps // 2 : 2 - steps // 2 + steps]
    else:
        old = functional.interpolate(old, size=(8, steps), mode="bilinear")
    fitted = (
        functional.interpolate(old, size=(mels, steps), mode="bilinear").reshape(1, 32, -1).transpose(1, 2)
    )
    positions = torch.cat([state["module.v.pos_embed"][:, :2], fitted], 1)
    with torch.no_grad():
        tokens = timm_tokens(state, maps.flatten(2).transpose(1, 2), positions, depth=2, heads=4)
        wanted = functional.layer_norm(tokens[:, 2:].mean(1), (32,))
        torch.testing.assert_close(network.embed(features), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std(0).mean() > 0.05  # the two clips differ


def test_positions_are_cut_from_the_middle_of_either_axis() -> None:
    numbers = torch.arange(2 + 8 * 6).float().view(1, -1, 1)
    cut = fit_positions(numbers, (8, 6), (4, 2)).flatten()
    assert cut[:2].tolist() == [0, 1]
    # Rows 2 to 5 of 8, columns 2 and 3 of 6.
    assert cut[2:].tolist() == [2 + 6 * row + column for row in range(2, 6) for column in (2, 3)]
    assert torch.equal(fit_positions(numbers, (8, 6), (8, 6)), numbers)


def test_the_published_size(tmp_path: Path) -> None:
    published = published_state(768, 12, 1024)
    names = set(published)
    assert len(names) == 6 + 2 * (8 + 12 * 6) and "module.v.blocks.11.attn.qkv.weight" in names
    config, state = convert(published)
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["intermediate_size"]) == (
        12,
        12,
        3072,
    )
    assert len(state) == 7 + 12 * (2 * 5 + 2 * 3)
    path = tmp_path / "SSAST-Base-Patch-400.pth"
    torch.save(published, path)
    classifier = SSAST(SSASTOptions(weights=str(path)), 50, 0)
    network = classifier.build().eval()
    assert isinstance(network, SpectrogramTransformer)
    # Blocks, patches, last norm, two tokens, 12 x 50 + 2 positions; norm and linear layer on top.
    block = 2 * 2 * 768 + 2304 * 769 + 768 * 769 + 3072 * 769 + 768 * 3073
    by_hand = 12 * block + 768 * 257 + 2 * 768 + 2 * 768 + 602 * 768 + 2 * 768 + 50 * 769
    assert sum(value.numel() for value in network.parameters()) == by_hand == 85_757_234
    assert (network.sample_rate_hz, network.window_samples) == classifier.hears() == (16_000, 82_160)
    with torch.no_grad():
        features = network.features(clips(1, samples=80_000).waveforms)
        assert features.shape == (1, 512, 128)
        assert network(features).isfinite().all() and network(features).shape == (1, 50)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("evil"),)


def test_bad_ssast_checkpoints_are_refused(
    tmp_path: Path, make: Callable[..., TransformerClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"

    def refused(state: Any, message: str, **more: Any) -> None:
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            make("ssast", weights=str(path), **more).build()

    good = published_state()
    without = {name: value for name, value in good.items() if "blocks.1.attn.qkv.bias" not in name}
    refused(without, r"bad\.pth is no pretrained SSAST: it lacks v\.blocks\.1\.attn\.qkv\.bias$")
    refused(good | {"module.mlp_head.1.weight": torch.zeros(2)}, r"has an unknown mlp_head\.1\.weight")
    refused({n: v for n, v in good.items() if "dist_token" not in n}, r"lacks v\.dist_token")
    refused(good | {"module.v.norm.weight": torch.zeros(3)}, r"layernorm\.weight is \[3\], expected \[32\]")
    refused(
        good | {"module.v.patch_embed.proj.weight": torch.zeros(32, 1, 128, 2)}, r"\[128, 2\] cells.*Patch"
    )
    refused(good, "32 dimensions do not divide into 5", heads=5)
    refused([1], "holds a list")
    refused({"module.v.norm.weight": Evil()}, "hold more than tensors")
    assert not (tmp_path / "evil").exists()
    torch.save(good, path)
    with pytest.raises(ValueError, match=r"bad\.pth .*expected 0000"):
        make("ssast", weights=str(path), sha256="0" * 64).build()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="truncated"):
        make("ssast", weights=str(path)).build()


# AST's checkpoints


def test_ast_computes_what_the_checkpoint_does(
    ast_folder: Path, make: Callable[..., TransformerClassifier]
) -> None:
    from safetensors import safe_open
    from transformers import ASTForAudioClassification

    with safe_open(ast_folder / "model.safetensors", "pt") as file:
        # The names that the published checkpoint has.
        assert {
            "audio_spectrogram_transformer.encoder.layer.1.attention.attention.query.weight",
            "audio_spectrogram_transformer.embeddings.distillation_token", "classifier.dense.weight",
        } <= set(file.keys())  # fmt: skip
    network = make("ast", frames=96).build().eval()
    reference = ASTForAudioClassification.from_pretrained(ast_folder).eval()
    features = torch.randn(2, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pooled = reference.audio_spectrogram_transformer(features).pooler_output
        torch.testing.assert_close(network.embed(features), functional.layer_norm(pooled, (32,)))
    # Fewer frames: 3 of 9 steps, from the middle; position embeddings are otherwise the checkpoint's.
    short = make("ast", frames=40).build()
    theirs = reference.audio_spectrogram_transformer.embeddings.position_embeddings[:, 2:].unflatten(
        1, (12, 9)
    )
    ours = short.backbone.embeddings.position_embeddings[:, 2:].unflatten(1, (12, 3))
    assert torch.equal(ours, theirs[:, :, 3:6])


def test_bad_ast_checkpoints_are_refused(
    ast_folder: Path, tmp_path: Path, make: Callable[..., TransformerClassifier]
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    def refused(message: str, error: type[Exception] = ValueError, **more: Any) -> None:
        with pytest.raises(error, match=message):
            make("ast", **{"model": str(tmp_path / "bad"), **more}).build()

    refused("needs `revision`", model="MIT/ast")
    folder = tmp_path / "bad"
    shutil.copytree(ast_folder, folder)
    state = load_file(folder / "model.safetensors")
    first = next(name for name in state if "position" in name)
    save_file(
        {name: v for name, v in state.items() if name != first},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    refused("lacks audio_spectrogram_transformer.embeddings.position_embeddings")
    save_file(state | {"strange.weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    refused("has an unknown strange.weight")
    (folder / "model.safetensors").write_bytes(b"<html>")
    refused("damaged")
    (folder / "preprocessor_config.json").unlink()
    refused("preprocessor_config.json with mean and std", FileNotFoundError)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    refused("of type 'bert'", mean=0.0, deviation=1.0)
    shutil.rmtree(folder)
    folder.mkdir()
    refused("can't be loaded", FileNotFoundError, mean=0.0, deviation=1.0)


# Training


def test_published_settings_of_ssast() -> None:
    published = {
        "steps": 1500, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 1e-4, "optimiser": "adam",
        "betas": (0.9, 0.98), "frames": 512, "frequency_stride": 10, "time_stride": 10, "schedule": "constant",
    }  # fmt: skip
    options = parse_options(SSASTOptions, {"weights": "x.pth"}, "here")
    assert {name: getattr(options, name) for name in published} == published
    assert parse_options(SSASTOptions, {"betas": [0.5, 0.9]}, "here").betas == (0.5, 0.9)
    with pytest.raises(ConfigError, match="optimiser"):
        parse_options(SSASTOptions, {"optimiser": "sgd"}, "here")
    with pytest.raises(ValueError, match=r"betas must lie in \[0, 1\)"):
        TrainingOptions(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="frames"):
        SSASTOptions(frames=10)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_trained_and_how(frozen: bool, make: Callable[..., TransformerClassifier]) -> None:
    used: list[torch.optim.Optimizer] = []
    hook = register_optimizer_step_post_hook(lambda optimiser, *_: used.append(optimiser))
    try:
        classifier = make("ssast", steps=2, frozen=frozen, weight_decay=0.1)
        classifier.fit(clips(12))
    finally:
        hook.remove()
    (group,) = used[0].param_groups
    assert type(used[0]) is torch.optim.Adam
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.9, 0.98), 0.1, 1e-3)
    torch.manual_seed(0)
    before, after = make("ssast").build().state_dict(), classifier.trained.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"head.weight", "norm.bias"} <= changed
    assert frozen == (not [name for name in changed if name.startswith("backbone.")])


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_a_toy_problem(kind: str, make: Callable[..., TransformerClassifier]) -> None:
    classifier = make(kind, steps=60, batch_size=12, learning_rate=3e-3)
    classifier.fit(
        clips(48), augmentations=Augmentations.of([SpecAugment(PUBLISHED_MASKS)]), validation=clips(6, 1)
    )
    test = clips(30, 2)
    scores = classifier.score(test.waveforms, SAMPLE_RATE_HZ)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(30))
    assert (scores.argmax(1) == test.labels).float().mean() > 0.8  # chance is a third
    torch.testing.assert_close(
        classifier.score(test.waveforms, SAMPLE_RATE_HZ, batch_size=4), scores, rtol=0, atol=1e-4
    )


def test_gradient_checkpointing_changes_nothing(make: Callable[..., TransformerClassifier]) -> None:
    trained = []
    for checkpointing in (False, True):
        classifier = make("ssast", steps=2, gradient_checkpointing=checkpointing)
        classifier.fit(clips(12))
        trained.append(classifier.trained)
    layers = [[layer.gradient_checkpointing for layer in network.backbone.layers] for network in trained]
    assert layers == [[False, False], [True, True]]
    for (name, a), b in zip(trained[0].named_parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_keeps_float32_weights(kind: str, make: Callable[..., TransformerClassifier]) -> None:
    trained = {}
    for precision in ("float32", "bfloat16"):
        classifier = make(kind, steps=3, precision=precision)
        history = classifier.fit(clips(12), validation=clips(6, 1))
        assert all(np.isfinite(value) for _, _, value in history.rows)
        trained[precision] = classifier.trained.state_dict()
    name = "backbone.layers.0.mlp.fc1.weight"
    full, mixed = trained["float32"][name], trained["bfloat16"][name]
    assert mixed.dtype == torch.float32 and not torch.equal(full, mixed)
    assert (full - mixed).abs().mean() < 1e-3  # a step is as long


class Interrupted(Exception):
    """Stands for the end of a machine."""


def test_an_interrupted_training_goes_on_to_equal_weights(
    make: Callable[..., TransformerClassifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(checkpoint: Checkpoint | None = None) -> AudioClassifier:
        classifier = make("ssast", keep="best")
        classifier.fit(clips(12), validation=clips(6, 1), checkpoint=checkpoint)
        return classifier

    whole = train()
    real_fit, batch = audio_protocol.fit, EndlessShuffle.batch
    monkeypatch.setattr(audio_protocol, "fit", lambda *a, **k: real_fit(*a, checkpoint_every_s=0, **k))
    checkpoint = Checkpoint(tmp_path, {})

    def dies(self: EndlessShuffle, step: int) -> Any:
        if step == 4:
            raise Interrupted
        return batch(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(EndlessShuffle, "batch", dies)
        with pytest.raises(Interrupted):
            train(checkpoint)
    assert checkpoint.path.exists()
    resumed = train(checkpoint).trained.state_dict()
    for name, value in whole.trained.state_dict().items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_saved_weights_need_no_checkpoint(
    kind: str, make: Callable[..., TransformerClassifier], tmp_path: Path
) -> None:
    classifier, waveforms = make(kind, steps=2), clips(5, 1).waveforms
    classifier.fit(clips(12))
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    gone = {"weights": "gone.pth"} if kind == "ssast" else {"model": "gone"}
    other = make(kind, seed=3, **gone)
    other.load(path)
    assert torch.equal(other.score(waveforms, SAMPLE_RATE_HZ), classifier.score(waveforms, SAMPLE_RATE_HZ))
    with pytest.raises(ValueError, match="trained on 40 frames, not on 50"):
        make(kind, frames=50, **gone).load(path)
    with pytest.raises(ValueError, match=r"(?s)4 classes.*size mismatch"):
        make(kind, classes=4, **gone).load(path)
