"""Linear probes: scikit-learn's solutions, one problem or many, absent classes, and who may choose the strength."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from foley.classifiers import linear_probe
from foley.classifiers.linear_probe import LinearProbe, LinearProbeOptions, fit_probes
from foley.options import ConfigError, parse_options

CLASSES, DIM = 5, 12


def embeddings(count: int = 200, seed: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Overlapping classes; dimensions of very different size that go together, one without any variance."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, DIM))
    y = generator.permutation(np.arange(count) % CLASSES)
    x = centres[y] + spread * generator.normal(size=(count, DIM))
    x[:, 1] += 3 * x[:, 0]
    x = x * 10 ** np.linspace(-3, 2, DIM) + 5
    x[:, 4] = 7.0
    return torch.from_numpy(x), torch.from_numpy(y)


def by_sklearn(x: Tensor, y: Tensor, weight: Tensor, strength: float) -> tuple[Any, Any]:
    rows = (weight > 0).numpy()
    own = weight.numpy()[rows]
    scaler = StandardScaler().fit(x.numpy()[rows], sample_weight=own)
    model = LogisticRegression(C=1 / (strength * own.sum()), tol=1e-9, max_iter=5000)
    return model.fit(scaler.transform(x.numpy()[rows]), y.numpy()[rows], sample_weight=own), scaler


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("memory", [10**9, 60_000], ids=["together", "apart"])
def test_every_problem_is_scikit_learns(
    dtype: torch.dtype, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(linear_probe.BATCH_BYTES, "cpu", memory)
    x, y = embeddings()
    generator = torch.Generator().manual_seed(0)
    # All clips, half of them, fewer than there are dimensions, and weights.
    kinds = torch.stack(
        [torch.ones(200), torch.rand(200, generator=generator) < 0.5, torch.arange(200) < 11,
         torch.rand(200, generator=generator).round(decimals=1)]
    ).double()  # fmt: skip
    assert [int(kind.unique(return_counts=True)[0].numel()) for kind in kinds][:3] == [1, 2, 2]
    assert set(y[:11].tolist()) == set(range(CLASSES))
    membership = kinds.repeat_interleave(3, 0)[torch.randperm(12, generator=generator)]
    strengths = torch.tensor([1e-3, 1e-1, 1.0] * 4)[torch.randperm(12, generator=generator)]
    tolerance = 1e-8 if dtype == torch.float64 else 1e-5
    probes = fit_probes(x.to(dtype), y, membership, strengths, classes=CLASSES, tolerance=tolerance)
    assert probes.converged.all() and probes.weight.dtype == dtype
    found = probes.score(x.to(dtype)).double().exp()
    for number in range(12):
        model, scaler = by_sklearn(x, y, membership[number], strengths[number].item())
        wanted = torch.from_numpy(model.predict_proba(scaler.transform(x.numpy())))
        torch.testing.assert_close(
            found[number], wanted, rtol=0, atol=1e-5 if dtype == torch.float64 else 2e-3, msg=str(number)
        )


def test_a_problem_does_not_depend_on_its_company() -> None:
    x, y = embeddings()
    membership = torch.rand(6, 200, generator=torch.Generator().manual_seed(1)) < 0.4
    strengths = torch.full((6,), 0.01)
    together = fit_probes(x, y, membership, strengths, classes=CLASSES, tolerance=1e-9)
    for number in range(6):
        alone = fit_probes(
            x, y, membership[number : number + 1], strengths[:1], classes=CLASSES, tolerance=1e-9
        )
        torch.testing.assert_close(together.score(x)[number], alone.score(x)[0], rtol=0, atol=1e-6)
    # Clips that are left out have no say.
    changed = x.clone()
    changed[~membership[2]] *= -3
    other = fit_probes(changed, y, membership[2:3], strengths[:1], classes=CLASSES, tolerance=1e-9)
    torch.testing.assert_close(other.weight[0], together.weight[2], rtol=1e-5, atol=1e-8)


def test_absent_classes_have_a_small_finite_probability() -> None:
    x, y = embeddings()
    membership = torch.stack([y != 2, (y == 0) | (y == 4), torch.ones(200, dtype=torch.bool)])
    probes = fit_probes(x, y, membership, torch.full((3,), 0.05), classes=CLASSES, tolerance=1e-8)
    assert probes.present.tolist() == [[1, 1, 0, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    scores = probes.score(x)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores.exp().sum(2), torch.ones(3, 200, dtype=torch.float64))
    n = int((y != 2).sum())
    torch.testing.assert_close(scores[0, :, 2].exp(), torch.full((200,), 1 / (5 * (n + 1))).double())
    model, scaler = by_sklearn(x, y, membership[0].double(), 0.05)
    wanted = (n * torch.from_numpy(model.predict_proba(scaler.transform(x.numpy()))) + 1 / 5) / (n + 1)
    torch.testing.assert_close(scores[0].exp()[:, [0, 1, 3, 4]], wanted, rtol=0, atol=1e-5)
    # The least likely class that was there stays ahead of those that were not.
    assert (scores[1][:, [0, 4]].amin(1) >= scores[1][:, 1:4].amax(1)).all()


def test_validation_clips_alone_choose_the_strength() -> None:
    x, y = embeddings(300, spread=4.0)
    train = torch.zeros(2, 300, dtype=torch.bool)
    train[0, :40], train[1, :150] = True, True
    held_out = torch.arange(300) >= 200
    options = LinearProbeOptions(strengths=(1e-3, 1.0, 30.0, 3e-2), tolerance=1e-6)
    probes = LinearProbe(options, CLASSES).fit(x, y, train, held_out)
    losses = np.array(
        [
            [
                -np.log(
                    (found := by_sklearn(x, y, part.double(), strength))[0]
                    .predict_proba(found[1].transform(x.numpy()[200:]))[np.arange(100), y.numpy()[200:]]
                ).mean()
                for strength in options.strengths
            ]
            for part in train
        ]
    )  # fmt: skip
    best = np.array(options.strengths)[losses.argmin(1)]
    assert probes.strengths.tolist() == best.tolist() and best[0] > best[1]  # few clips need more of it
    # What the other clips say of themselves changes nothing.
    lies = y.clone()
    lies[150:200] = 0
    again = LinearProbe(options, CLASSES).fit(x, lies, train, held_out)
    assert torch.equal(again.weight, probes.weight)
    own = torch.stack([held_out, (torch.arange(300) >= 150) & ~held_out])
    assert torch.equal(LinearProbe(options, CLASSES).fit(x, y, train, own).weight[0], probes.weight[0])


def test_real_probabilities_generalise() -> None:
    x, y = embeddings(400)
    train = torch.arange(400) < 200
    probes = LinearProbe(LinearProbeOptions(), CLASSES).fit(
        x.float(), y, train.unsqueeze(0), (torch.arange(400) >= 200) & (torch.arange(400) < 300)
    )
    accuracy = (probes.score(x[300:].float())[0].argmax(1) == y[300:]).float().mean().item()
    model, scaler = by_sklearn(x, y, train.double(), 0.01)
    assert accuracy > 0.6 and abs(accuracy - model.score(scaler.transform(x[300:].numpy()), y[300:])) < 0.08


def test_separable_classes_are_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    x, y = embeddings(60, spread=0.01)
    one = torch.ones(1, 60)
    probes = fit_probes(x.float(), y, one, torch.tensor([1e-6]), classes=CLASSES, tolerance=1e-5)
    assert probes.converged.all() and (probes.score(x)[0].argmax(1) == y).all()
    with caplog.at_level(logging.WARNING):
        early = fit_probes(x.float(), y, one, torch.tensor([1e-6]), classes=CLASSES, max_steps=2)
    assert not early.converged.any() and "1 of 1 problems not solved" in caplog.text


def test_few_clips_of_many_dimensions_are_solved_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 300, generator=generator).relu() ** 2
    y = torch.arange(60) % CLASSES
    strengths = torch.tensor(LinearProbeOptions().strengths)
    probes = fit_probes(x, y, torch.ones(len(strengths), 60), strengths, classes=CLASSES)
    assert probes.converged.all()
    exact = fit_probes(
        x.double(), y, torch.ones(len(strengths), 60), strengths, classes=CLASSES, tolerance=1e-9
    )
    wanted = exact.score(x.double()).exp()
    torch.testing.assert_close(probes.score(x).double().exp(), wanted, rtol=0, atol=1e-3)


def test_bad_input_is_named() -> None:
    x, y = embeddings()
    ones, half = torch.ones(2, 200), torch.full((2,), 0.5)

    def refused(message: str, **change: Any) -> None:
        given = {"x": x, "y": y, "membership": ones, "strengths": half, **change}
        with pytest.raises(ValueError, match=message):
            fit_probes(**given, classes=CLASSES)

    broken = x.clone()
    broken[3, 1] = torch.nan
    refused(r"rows \[3\] hold values that are NaN", x=broken)
    refused("labels from 0 to 9, but 5 classes", y=torch.where(y == 4, 9, y))
    refused(r"membership must be \[P, 200\]", membership=torch.ones(2, 7))
    refused("problem 1 has training clips of fewer", membership=torch.stack([ones[0], (y == 1).float()]))
    refused("problem 0 has a weight that is negative", membership=-ones)
    refused("problem 1 has a strength", strengths=torch.tensor([1.0, 0.0]))
    probe = LinearProbe(LinearProbeOptions(), CLASSES)
    with pytest.raises(ValueError, match="problem 0 validates on clips that it trains on"):
        probe.fit(x, y, ones, torch.arange(200) < 5)
    with pytest.raises(ValueError, match="problem 0 has no validation clips"):
        probe.fit(x, y, ones, torch.zeros(200))
    with pytest.raises(ConfigError, match="strengths must be positive numbers, each once"):
        parse_options(LinearProbeOptions, {"strengths": [0.1, 0.1]}, "here")
