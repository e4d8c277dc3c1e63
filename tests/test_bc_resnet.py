"""BC-ResNet: the published sizes, what its blocks compute, and that it learns, saves and continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from foley.augment.background import Background, BackgroundOptions
from foley.augment.protocol import Augmentations
from foley.classifiers.bc_resnet import (
    SUB_BANDS,
    BCResNet,
    BCResNetNetwork,
    BCResNetOptions,
    BroadcastBlock,
    SubSpectralNorm,
)
from foley.training.checkpoint import Checkpoint
from toy_clips import toy_clips

RATE = 16_000
TINY = {"steps": 80, "batch_size": 12, "validate_every_steps": 20, "window_s": 0.24, "learning_rate": 1e-2}


@pytest.mark.parametrize(("tau", "thousands"), [(1, 9.2), (2, 27.3), (3, 54.2), (6, 188), (8, 321)])
def test_published_sizes(tau: float, thousands: float) -> None:
    # Table 2 of the paper, with 12 classes.
    network = BCResNetNetwork(12, BCResNetOptions(tau=tau))
    assert sum(value.numel() for value in network.parameters()) / 1e3 == pytest.approx(thousands, rel=0.005)


def test_sub_bands_are_normalised_each_for_itself() -> None:
    x = torch.randn(6, 4, 10, 7, generator=torch.Generator().manual_seed(0))
    x = x * torch.arange(1.0, 11).view(1, 1, -1, 1) + 3
    found = SubSpectralNorm(4).train()(x)
    for band in range(SUB_BANDS):
        rows = slice(2 * band, 2 * band + 2)
        part = functional.batch_norm(x[:, :, rows], None, None, training=True)
        torch.testing.assert_close(found[:, :, rows], part, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "halve"), [(8, False), (4, True)])
def test_a_block_adds_its_temporal_part_at_every_frequency(inputs: int, halve: bool) -> None:
    torch.manual_seed(0)
    block = BroadcastBlock(inputs, 8, halve, 2, 0.1).eval()
    x = torch.randn(2, inputs, 20, 9)
    with torch.no_grad():
        f2 = block.over_frequency(x)
        assert f2.shape == (2, 8, 10 if halve else 20, 9)
        f1 = block.over_time(f2.mean(2, keepdim=True))
        assert f1.shape == (2, 8, 1, 9)
        wanted = functional.relu(f2 + f1 + (0 if block.is_transition else x))
        torch.testing.assert_close(block(x), wanted)
    assert block.is_transition == (inputs != 8)


@pytest.mark.parametrize(("window_s", "n_mels"), [(0.3, 40), (1.0, 40), (3.0, 80)])
def test_any_window(window_s: float, n_mels: int) -> None:
    classifier = BCResNet(BCResNetOptions(window_s=window_s, n_mels=n_mels), 4, 0)
    network = classifier.build().eval()
    rate, samples = classifier.hears()
    assert rate == RATE and samples == pytest.approx(window_s * RATE, abs=400)
    with torch.no_grad():
        features = network.features(0.1 * torch.randn(2, RATE))
        assert features.shape == (2, round(100 * window_s), n_mels)
        assert network.embed(features).shape == (2, 32) and network(features).shape == (2, 4)


def test_it_learns_saves_and_loads(tmp_path: Path) -> None:
    classifier = BCResNet(BCResNetOptions(**TINY), 3, 0)
    noise = list(torch.randn(2, 5000, generator=torch.Generator().manual_seed(1)))
    changes = Augmentations.of([Background(BackgroundOptions(probability=0.5), noise, RATE)])
    history = classifier.fit(
        toy_clips(60, samples=4000), augmentations=changes, validation=toy_clips(12, 1, 4000)
    )
    assert len(history.rows) == 4 * 3
    test = toy_clips(60, 2, 4000)
    scores = classifier.score(test.waveforms, RATE)
    assert (scores.argmax(1) == test.labels).float().mean() > 0.85  # chance is a third
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(60))
    classifier.save(tmp_path / "model.safetensors")
    again = BCResNet(BCResNetOptions(**TINY), 3, 5)
    again.load(tmp_path / "model.safetensors")
    assert torch.equal(again.score(test.waveforms, RATE), scores)
    assert classifier.embed(test.waveforms[:3], RATE).shape == (3, 32)
    with pytest.raises(ValueError, match="holds no `bc_resnet` of 3 classes"):
        BCResNet(BCResNetOptions(tau=2, **TINY), 3, 0).load(tmp_path / "model.safetensors")


def test_an_interrupted_training_ends_alike(tmp_path: Path) -> None:
    options = BCResNetOptions(**{**TINY, "steps": 6, "validate_every_steps": 2})
    noise = [torch.randn(5000, generator=torch.Generator().manual_seed(1))]
    changes = Augmentations.of([Background(None, noise, RATE)])

    def weights(classifier: BCResNet) -> dict[str, Tensor]:
        return classifier.trained.state_dict()

    whole = BCResNet(options, 3, 0)
    whole.fit(toy_clips(20, samples=4000), augmentations=changes)
    part = BCResNet(options, 3, 0)
    checkpoint = Checkpoint(tmp_path / "run", "key")

    class Stop(Exception):
        pass

    calls = 0

    class Failing(Background):
        def change_waveforms(self, waveforms: Tensor, draws: Any) -> Tensor:
            nonlocal calls
            calls += 1
            if calls > 4:
                raise Stop
            return super().change_waveforms(waveforms, draws)

    with pytest.raises(Stop):
        failing = Augmentations.of([Failing(None, noise, RATE)])
        part.fit(toy_clips(20, samples=4000), augmentations=failing, checkpoint=checkpoint)
    part = BCResNet(options, 3, 0)
    part.fit(toy_clips(20, samples=4000), augmentations=changes, checkpoint=checkpoint)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(part)[name]), name


@pytest.mark.parametrize(
    "given",
    [{"n_mels": 64}, {"tau": 0.05}, {"tau": -1}, {"dropout": 1.0}, {"window_s": 0}, {"f_max_hz": 9000}],
)
def test_bad_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        BCResNetOptions(**given)
