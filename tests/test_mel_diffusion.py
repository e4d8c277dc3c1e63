"""Mel diffusion with networks of a few thousand weights: forms, training, resuming, sampling, saving, bad input."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from foley.generators.audio.mel import MelOptions
from foley.generators.audio.mel_diffusion import (
    MelDiffusion,
    MelDiffusionOptions,
    WarmUpAndAverage,
    build_unet,
    make_scheduler,
)
from foley.generators.audio.protocol import LabelledClips
from foley.options import parse_options
from foley.runtime.seeds import SeedStreams
from foley.training.checkpoint import Checkpoint
from foley.training.loop import NonFiniteLoss

MEL = MelOptions(sample_rate_hz=4000, n_fft=128, hop_length=64, n_mels=8, frames=8, griffin_lim_iterations=2)
TINY = MelDiffusionOptions(
    mel=MEL,
    channels=(4, 4, 8),
    layers_per_block=1,
    norm_groups=2,
    attention_head_dim=4,
    epochs=3,
    batch_size=4,
    learning_rate=3e-3,
    warm_up_steps=2,
    ema_decay=0.9,
    sampling_steps=3,
    precision="float32",  # what is compared to 1e-5; `auto` is bfloat16 on some CPUs
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_clips(clips: int = 6) -> LabelledClips:
    """A low and a high tone, each in noise."""
    random = np.random.default_rng(0)
    time = np.arange(MEL.samples) / MEL.sample_rate_hz
    waveforms = [
        (
            0.3 * np.sin(2 * np.pi * (200 + 900 * (n % 2)) * time) + 0.01 * random.normal(size=len(time))
        ).astype("f4")
        for n in range(clips)
    ]
    names = [("low", "high")[n % 2] for n in range(clips)]
    return LabelledClips([f"clip-{n}" for n in range(clips)], names, waveforms, MEL.sample_rate_hz)


def fitted(
    clips: LabelledClips | None = None, checkpoint: Checkpoint | None = None, **changes: object
) -> MelDiffusion:
    model = MelDiffusion(dataclasses.replace(TINY, **changes), seed=3)  # type: ignore[arg-type]
    model.fit(clips or toy_clips(), checkpoint=checkpoint)
    return model


@pytest.fixture(scope="module")
def model() -> MelDiffusion:
    torch.set_num_threads(1)
    return fitted()


def weights(model: MelDiffusion) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.trained.parameters()])


# --- forms of the network -------------------------------------------------------------------------------------------


def count(network: nn.Module, kind: str) -> int:
    return sum(type(module).__name__ == kind for module in network.modules())


def test_attention_forms_have_equal_depth_but_for_the_published_one() -> None:
    options = dataclasses.replace(TINY, mel=dataclasses.replace(MEL, frames=8), channels=(4, 4, 8, 8))
    forms = {
        form: build_unet(dataclasses.replace(options, attention=form), 2)
        for form in ("one_level", "none", "published_none")
    }
    resnets = {form: count(network, "ResnetBlock2D") for form, network in forms.items()}
    levels = {form: len(network.down_blocks) for form, network in forms.items()}
    attentions = {form: count(network, "Attention") for form, network in forms.items()}
    assert levels == {"one_level": 4, "none": 4, "published_none": 3}
    # Each level has 1 block down and 2 up, the middle 2.
    assert resnets == {"one_level": 14, "none": 14, "published_none": 11}
    # One level down and up and the middle; nothing; the middle.
    assert attentions == {"one_level": 4, "none": 0, "published_none": 1}
    assert type(forms["one_level"].down_blocks[2]).__name__ == "AttnDownBlock2D"
    assert type(forms["one_level"].up_blocks[1]).__name__ == "AttnUpBlock2D"
    with_attention = {name for name, _ in forms["one_level"].named_parameters()}
    without = {name for name, _ in forms["none"].named_parameters()}
    assert without == {name for name in with_attention if "attentions" not in name}


def test_the_default_network_is_the_published_one() -> None:
    with torch.device("meta"):
        network = build_unet(MelDiffusionOptions(), 50)
    assert tuple(network.config.block_out_channels) == (128, 128, 256, 256, 512, 512)
    assert network.config.down_block_types[4] == "AttnDownBlock2D"
    assert tuple(network.class_embedding.weight.shape) == (51, 512)
    assert sum(p.numel() for p in network.parameters()) > 100e6


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["l1", "l2"])
def test_the_loss_falls(loss: str) -> None:
    trained = fitted(epochs=16, loss=loss, class_dropout=0.0)
    losses = [value for _, quantity, value in trained.history.rows if quantity == "loss"]
    assert len(losses) == 16
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2])


def test_average_and_warm_up_follow_their_formulas() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1, bias=False)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    from diffusers.optimization import get_cosine_schedule_with_warmup

    after = WarmUpAndAverage(get_cosine_schedule_with_warmup(optimiser, 4, 12), layer, 0.6, 0.75)
    wanted = np.zeros((1, 3))
    rates = []
    for step in range(1, 13):
        layer(torch.randn(8, 3)).square().mean().backward()
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        optimiser.zero_grad()
        after.step()
        decay = min(0.6, 1 - step**-0.75)
        wanted = decay * wanted + (1 - decay) * layer.weight.detach().double().numpy()
    np.testing.assert_allclose(after.average[0].numpy(), wanted, rtol=1e-5)
    cosine = [0.5 * (1 + np.cos(np.pi * n / 8)) for n in range(8)]
    np.testing.assert_allclose(rates, 0.5 * np.array([0, 0.25, 0.5, 0.75, *cosine]), atol=1e-12)
    after.keep_average()
    np.testing.assert_allclose(layer.weight.detach().numpy(), wanted, rtol=1e-5)


def test_without_average_the_last_weights_stay() -> None:
    plain, averaged = weights(fitted(ema_decay=0.0)), weights(fitted())
    assert (plain - averaged).abs().max() > 1e-4


class Interrupted(Checkpoint):
    """A checkpoint whose training is killed after its second epoch."""

    saves = 0

    def save(self, state: dict) -> None:
        super().save(state)
        self.saves += 1
        if self.saves == 2:
            raise KeyboardInterrupt


def test_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import foley.generators.audio.mel_diffusion as module

    monkeypatch.setattr(module, "CHECKPOINT_EVERY_S", 0.0)  # after each epoch
    whole = fitted(epochs=4, dropout=0.1)
    with pytest.raises(KeyboardInterrupt):
        fitted(epochs=4, dropout=0.1, checkpoint=Interrupted(tmp_path, "toy"))
    resumed = fitted(epochs=4, dropout=0.1, checkpoint=Checkpoint(tmp_path, "toy"))
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history.rows == resumed.history.rows


def test_accumulation_changes_rounding_only() -> None:
    at_once, in_parts = fitted(ema_decay=0.0, epochs=1), fitted(ema_decay=0.0, epochs=1, accumulation=3)
    torch.testing.assert_close(weights(in_parts), weights(at_once), atol=1e-4, rtol=0)
    one = at_once.history.last("loss")
    assert in_parts.history.last("loss") == pytest.approx(one, rel=1e-4)


@pytest.fixture
def scarce_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """A function that makes a network fail with out of memory on more than so many images; returns the sizes tried."""

    def limit(most: int) -> list[int]:
        from diffusers import UNet2DModel

        real, seen = UNet2DModel.forward, []

        def forward(self: nn.Module, sample: Tensor, *args: object, **more: object) -> object:
            seen.append(len(sample))
            if len(sample) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(self, sample, *args, **more)

        monkeypatch.setattr(UNet2DModel, "forward", forward)
        return seen

    return limit


def test_out_of_memory_takes_batches_in_parts(
    scarce_memory: Callable[[int], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    # Adam makes a whole step of the smallest gradient, rounding included, so steps are small here.
    few = {"ema_decay": 0.0, "epochs": 1, "learning_rate": 1e-3}
    unlimited = fitted(**few)
    scarce_memory(1)
    with caplog.at_level(logging.WARNING):
        scarce = fitted(**few)
    torch.testing.assert_close(weights(scarce), weights(unlimited), atol=1e-4, rtol=0)
    assert "a batch is now taken in 4 parts" in caplog.text
    scarce_memory(0)
    with pytest.raises(torch.OutOfMemoryError):
        fitted(epochs=1)


def test_non_finite_loss_names_the_clips(model: MelDiffusion) -> None:
    images = model.mel.images(model.mel.cut(toy_clips().waveforms, MEL.sample_rate_hz))
    images[4] = torch.inf
    broken = MelDiffusion(TINY, seed=3)
    with pytest.raises(NonFiniteLoss, match=r"has the clips .*clip-4") as raised:
        broken.fit_images(images, toy_clips().classes, toy_clips().clip_ids)
    # Those of one batch, not all.
    assert str(raised.value).count("clip-") <= 4


# --- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm_solver"])
def test_samples_depend_on_their_class_and_seed_only(model: MelDiffusion, sampler: str) -> None:
    classes, seeds = ["low", "high", "low", "high", "low"], [1, 2, 3, 2, 1]
    together = model.sample(classes, seeds, sampler=sampler, steps=4)  # type: ignore[arg-type]
    assert (
        together.shape == (5, 1, 8, 8) and together.dtype == torch.float32 and torch.isfinite(together).all()
    )
    in_pairs = model.sample(classes[::-1], seeds[::-1], sampler=sampler, steps=4, batch_size=2)  # type: ignore[arg-type]
    torch.testing.assert_close(in_pairs.flip(0), together, atol=1e-4, rtol=0)
    again = model.sample(classes, seeds, sampler=sampler, steps=4)  # type: ignore[arg-type]
    assert torch.equal(again, together)
    torch.testing.assert_close(together[0], together[4], atol=1e-4, rtol=0)
    assert (together[0] - together[2]).abs().max() > 1e-2
    assert (together[1] - model.sample(["low"], [2], sampler=sampler, steps=4)[0]).abs().max() > 1e-5  # type: ignore[arg-type]


def test_ddpm_takes_all_steps_unless_told(scarce_memory: Callable[[int], list[int]]) -> None:
    tiny = MelDiffusion(dataclasses.replace(TINY, train_steps=12, sampler="ddpm"), seed=0)
    tiny.begin(["a"])
    seen = scarce_memory(10)
    tiny.sample(["a"], [0])
    assert len(seen) == 12
    tiny.sample(["a"], [0], sampler="ddim")
    assert len(seen) == 12 + 3


def test_guidance(model: MelDiffusion) -> None:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, none = torch.tensor([0, 1, 0]), torch.full((3,), 2)
    with torch.no_grad():
        of_class = model.trained(x, 500, class_labels=labels).sample
        of_none = model.trained(x, 500, class_labels=none).sample
        assert torch.equal(model.predict_noise(x, 500, labels, 1.0), of_class)
        torch.testing.assert_close(model.predict_noise(x, 500, labels, 0.0), of_none, atol=1e-5, rtol=0)
        guided = model.predict_noise(x, 500, labels, 3.0)
    torch.testing.assert_close(guided, 3 * of_class - 2 * of_none, atol=1e-5, rtol=0)
    plain, strong = (model.sample(["low"], [0], guidance=scale) for scale in (1.0, 5.0))
    assert torch.equal(plain, model.sample(["low"], [0]))
    assert (plain - strong).abs().max() > 1e-4


def test_dropped_classes_train_the_unconditional_model() -> None:
    rows = {}
    for share in (0.0, 0.5):
        fresh = MelDiffusion(
            dataclasses.replace(TINY, class_dropout=share, weight_decay=0.0, ema_decay=0.0), seed=3
        )
        before = fresh.begin(["high", "low"]).class_embedding.weight.detach().clone()  # type: ignore[union-attr]
        fresh.fit(toy_clips())
        moved = (fresh.trained.class_embedding.weight.detach() - before).abs().amax(1)  # type: ignore[union-attr]
        rows[share] = moved.tolist()
    assert rows[0.0][2] == 0 and min(rows[0.0][:2]) > 0
    assert min(rows[0.5]) > 0


def test_out_of_memory_halves_the_sampling_batch(
    model: MelDiffusion, scarce_memory: Callable[[int], list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = model.sample(["low"] * 5, range(5))
    seen = scarce_memory(2)
    with caplog.at_level(logging.WARNING):
        found = model.sample(["low"] * 5, range(5), batch_size=8)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    # A batch of 8 has the 5; so has none of 4.
    assert seen[:2] == [5, 4] and set(seen[2:]) == {2, 1}
    assert "going on with 2 clips at once" in caplog.text


def test_generate_gives_audio(model: MelDiffusion) -> None:
    audio = model.generate(["low", "high", "low"], [1, 2, 3], steps=3)
    assert audio.shape == (3, MEL.samples) and model.sample_rate_hz == 4000
    assert torch.isfinite(audio).all() and float(audio.abs().amax()) <= 1
    torch.testing.assert_close(model.generate(["low"], [3], steps=3)[0], audio[2], atol=1e-3, rtol=0)
    assert model.generate([], []).shape == (0, MEL.samples)


@pytest.mark.parametrize("steps", [50, 100, 300, 501, 1000])
@pytest.mark.parametrize("sampler", ["ddim", "dpm_solver"])
def test_a_perfect_model_gives_the_distribution_that_it_knows(sampler: str, steps: int) -> None:
    """Data of deviation s: the true noise is x sqrt(1 - a) / (a s^2 + 1 - a), whatever the number of steps."""
    s = 0.3
    scheduler = make_scheduler(TINY, sampler, clip=False)  # type: ignore[arg-type]
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == steps and int(scheduler.timesteps[0]) == TINY.train_steps - 1
    x = torch.randn(1, 1, 100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step in scheduler.timesteps:
        a = float(scheduler.alphas_cumprod[int(step)])
        x = scheduler.step(x * (1 - a) ** 0.5 / (a * s**2 + 1 - a), step, x).prev_sample
    assert float(x.std()) == pytest.approx(s, rel=0.1)


def test_ddim_is_that_of_diffusers_where_its_steps_join_up() -> None:
    ours = make_scheduler(TINY, "ddim")
    theirs = DDIMScheduler.from_config(ours.config)
    for steps in (10, 50, 1000):
        ours.set_timesteps(steps)
        theirs.set_timesteps(steps)
        assert torch.equal(ours.timesteps, theirs.timesteps)
        x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(steps))
        noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(steps + 1))
        for step in ours.timesteps:
            expected = theirs.step(noise, step, x).prev_sample
            torch.testing.assert_close(ours.step(noise, step, x).prev_sample, expected, rtol=1e-5, atol=1e-6)


def test_schedulers_agree_on_a_perfect_model() -> None:
    """Where all data are zero, the true noise is x / sqrt(1 - alpha_bar), and every sampler must end at zero."""
    for sampler in ("ddpm", "ddim", "dpm_solver"):
        scheduler = make_scheduler(TINY, sampler)  # type: ignore[arg-type]
        scheduler.set_timesteps(20)
        x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        for step in scheduler.timesteps:
            noise = x / (1 - scheduler.alphas_cumprod[int(step)]).sqrt()
            x = scheduler.step(noise, step, x).prev_sample
        assert float(x.abs().max()) < 2e-2, sampler


# --- saving ---------------------------------------------------------------------------------------------------------


def test_velocity_is_sampled_as_diffusers_does(tmp_path: Path) -> None:
    model = fitted(prediction="velocity")
    classes, seeds = ["low", "high", "low"], [5, 6, 7]
    ours = model.sample(classes, seeds, steps=10)
    model.save(tmp_path)
    # The folder says what the network predicts, to whoever reads it without us.
    settings = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert settings["prediction_type"] == "v_prediction"
    theirs = DDIMScheduler.from_config(settings, timestep_spacing="trailing", clip_sample=True)
    theirs.set_timesteps(10)
    x = SeedStreams(seeds, model.name, "sample").normal(*model.mel.shape)
    with torch.no_grad():
        for step in theirs.timesteps:
            said = model.trained(x, step, class_labels=model.numbers(classes)).sample
            x = theirs.step(said, step, x).prev_sample
    torch.testing.assert_close(ours, x.clamp(*model.mel.limits), atol=1e-5, rtol=1e-5)
    loaded = MelDiffusion.load(tmp_path, expected=model.options)
    assert torch.equal(loaded.sample(classes, seeds, steps=10), ours)
    with pytest.raises(ValueError, match="prediction"):
        MelDiffusion.load(tmp_path, expected=dataclasses.replace(model.options, prediction="noise"))


def test_velocity_is_what_the_noise_is_reckoned_from() -> None:
    # v = sqrt(a) eps - sqrt(1 - a) x_0 and x = sqrt(a) x_0 + sqrt(1 - a) eps, so eps = sqrt(a) v + sqrt(1 - a) x.
    model = fitted(prediction="velocity")
    kept = make_scheduler(model.options, "ddpm").alphas_cumprod.double()
    images, noise = torch.randn(2, 2, *model.mel.shape, dtype=torch.float64)
    for step in (0, 400, 999):
        x = kept[step].sqrt() * images + (1 - kept[step]).sqrt() * noise
        velocity = kept[step].sqrt() * noise - (1 - kept[step]).sqrt() * images

        class Perfect(nn.Module):
            def forward(self, x: Tensor, step: object, velocity: Tensor = velocity, **_: object) -> object:
                return SimpleNamespace(sample=velocity)

        model.network = Perfect()
        found = model.predict_noise(x, step, model.numbers(["low", "high"]))
        torch.testing.assert_close(found.double(), noise, atol=1e-5, rtol=1e-5)


def test_saved_and_loaded_is_the_same(model: MelDiffusion, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = MelDiffusion.load(tmp_path, expected=TINY)
    assert loaded.class_ids == ("high", "low") and loaded.history.rows == model.history.rows
    assert torch.equal(loaded.sample(["low", "high"], [4, 5]), model.sample(["low", "high"], [4, 5]))
    # diffusers reads it, too.
    from diffusers import DDPMPipeline

    assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    assert pipeline.unet.config.num_class_embeds == 3
    assert pipeline.scheduler.config.num_train_timesteps == 1000


def test_a_model_of_other_options_is_refused(model: MelDiffusion, tmp_path: Path) -> None:
    model.save(tmp_path)
    other = dataclasses.replace(TINY, loss="l1", mel=dataclasses.replace(MEL, top_db=60.0))
    with pytest.raises(
        ValueError, match=r"other options: mel\.top_db: 80\.0 \(not 60\.0\); loss: l2 \(not l1\)"
    ):
        MelDiffusion.load(tmp_path, expected=other)

    description = tmp_path / "foley.json"
    facts = json.loads(description.read_text())
    description.write_text(json.dumps({**facts, "options": {**facts["options"], "channels": [4, 4, 4]}}))
    with pytest.raises(
        ValueError, match=r"is not what foley\.json describes: \d+ parameters differ, for example"
    ):
        MelDiffusion.load(tmp_path)
    description.write_text(json.dumps({**facts, "options": {**facts["options"], "depth": 3}}))
    with pytest.raises(ValueError, match=r"unknown key `options\.depth`"):
        MelDiffusion.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"foley\.json is missing; train it first"):
        MelDiffusion.load(tmp_path / "elsewhere")


def test_incomplete_weights_are_refused(model: MelDiffusion, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model.save(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    save_file(
        {name: value for name, value in whole.items() if name != "conv_out.bias"}, file, {"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"conv_out\.bias"):
        MelDiffusion.load(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"no network can be read from .*unet: .*get its files again"):
        MelDiffusion.load(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=r"no network can be read from .*unet: .*get its files again"):
        MelDiffusion.load(tmp_path)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_bad_input(model: MelDiffusion) -> None:
    with pytest.raises(ValueError, match=r"has not learnt class `lowe`; did you mean `low`\?"):
        model.sample(["lowe"], [0])
    with pytest.raises(ValueError, match="2 classes and 1 seeds"):
        model.sample(["low", "low"], [0])
    with pytest.raises(ValueError, match="unknown sampler 'euler'"):
        model.sample(["low"], [0], sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must lie between 1 and train_steps 1000"):
        model.sample(["low"], [0], steps=0)
    with pytest.raises(ValueError, match="needs an unconditional model"):
        fitted(class_dropout=0.0, epochs=1).sample(["low"], [0], guidance=2.0)
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        model.sample(["low"], [0], guidance=float("nan"))
    with pytest.raises(RuntimeError, match=r"fit\(\) or load\(\) first"):
        _ = MelDiffusion(TINY, 0).trained
    clips = toy_clips()
    with pytest.raises(
        ValueError, match=r"clip clip-1 has 50 samples at 4000 Hz, less than one frame of 128"
    ):
        fitted(dataclasses.replace(clips, waveforms=[clips.waveforms[0], *[np.ones(50, np.float32)] * 5]))
    with pytest.raises(ValueError, match="not alike"):
        LabelledClips(["a"], ["x", "y"], [np.ones(9)], 4000)
    with pytest.raises(ValueError, match="no clips to learn from"):
        LabelledClips([], [], [], 4000)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": "huber"}, "loss must be"),
        ({"channels": (4, 8)}, "at least 3 levels"),
        ({"channels": (4, 6, 8)}, "multiples of norm_groups 2 and of attention_head_dim 4"),
        ({"channels": (4, 4, 4, 4, 4)}, "must be multiples of 16"),
        ({"accumulation": 5}, "accumulation must lie between 1 and batch_size 4"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"class_dropout": 1.0}, "class_dropout"),
        ({"class_dropout": 0.0, "guidance": 2.0}, "needs an unconditional model"),
        ({"beta_end": 1e-6}, "beta_start <= beta_end"),
        ({"sampling_steps": 2000}, "train_steps 1000"),
    ],
)
def test_bad_options(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **wrong)


def test_options_come_from_a_config() -> None:
    given = {"loss": "l1", "attention": "none", "channels": [32, 32, 64], "mel": {"normalise": False}}
    options = parse_options(MelDiffusionOptions, given, "diffusion.model")
    assert options.channels == (32, 32, 64) and not options.mel.normalise and options.loss == "l1"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_mixed_precision_trains_and_samples() -> None:
    trained = fitted(epochs=20, accumulation=2)
    assert trained.device.type == "cuda"
    losses = [value for _, quantity, value in trained.history.rows if quantity == "loss"]
    assert losses[-1] < losses[0]
    for sampler in ("ddpm", "ddim", "dpm_solver"):
        assert torch.isfinite(trained.sample(["low"] * 3, range(3), sampler=sampler, steps=5)).all()  # type: ignore[arg-type]
