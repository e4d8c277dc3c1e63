"""Linear probes of many arms, seeds and strengths: as one batch, and one by one with scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from measure import Table, one_core, times

from foley.classifiers.linear_probe import LinearProbeOptions, fit_probes

TITLE = "Linear probes"
STRENGTHS = LinearProbeOptions().strengths
TOLERANCE = LinearProbeOptions().tolerance
PARTS = (0.05, 0.25, 1.0)


def embeddings(clips: int, dim: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes that a probe tells apart about as well as mn04's embeddings of ESC-50, with a few strong axes."""
    generator = np.random.default_rng(seed)
    axes = np.linalg.qr(generator.normal(size=(dim, dim)))[0] * np.arange(1, dim + 1)[:, None] ** -0.5
    y = generator.permutation(np.arange(clips) % classes)
    x = 0.6 * generator.normal(size=(classes, dim))[y] + generator.normal(size=(clips, dim))
    return torch.from_numpy((x @ axes).astype(np.float32)), torch.from_numpy(y)


def by_sklearn(
    x: torch.Tensor, y: torch.Tensor, membership: torch.Tensor, strengths: torch.Tensor
) -> np.ndarray:
    """Probabilities [P, N, C]; the tolerance, too, is on the largest component of the mean loss's gradient."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    out = []
    for part, strength in zip(membership.numpy(), strengths.tolist(), strict=True):
        scaler = StandardScaler().fit(x.numpy()[part])
        model = LogisticRegression(C=1 / (strength * part.sum()), tol=TOLERANCE, max_iter=2000)
        model.fit(scaler.transform(x.numpy()[part]), y.numpy()[part])
        out.append(model.predict_proba(scaler.transform(x.numpy())))
    return np.stack(out)


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of one call: on one core its wall time, less what other programs took meanwhile."""
    start = time.process_time()
    call()
    return time.process_time() - start


def run(quick: bool = False) -> list[Table]:
    clips, dim, classes, seeds = (120, 16, 4, 2) if quick else (2000, 384, 50, 2)
    x, y = embeddings(clips, dim, classes, 0)
    generator = np.random.default_rng(1)
    rows = []
    with one_core():
        by_sklearn(x, y, torch.ones(1, clips, dtype=torch.bool), torch.ones(1))  # its imports
        for part in PARTS:
            sets = np.zeros((seeds, clips), bool)
            for own, label in ((own, label) for own in sets for label in range(classes)):
                its = generator.permutation(np.flatnonzero(y.numpy() == label))
                own[its[: max(2, round(part * len(its)))]] = True
            membership = torch.from_numpy(sets).repeat_interleave(len(STRENGTHS), 0)
            problems = (x, y, membership, torch.tensor(STRENGTHS).repeat(seeds))
            ours = cpu_seconds(lambda p=problems: fit_probes(*p, classes=classes))
            theirs = cpu_seconds(lambda p=problems: by_sklearn(*p))
            count = int(sets[0].sum())
            rows.append(
                [f"{count:,}", str(len(membership)), f"{ours:.2f}", f"{theirs:.2f}", times(theirs / ours)]
            )
    caption = (
        f"Embeddings of {dim} dimensions, {classes} classes, {seeds} seeds, {len(STRENGTHS)} strengths (made data), "
        f"to a gradient of {TOLERANCE:g}; CPU time on one core."
    )
    return [Table(caption, ["training clips", "problems", "batched, s", "one by one, s", "ratio"], rows)]


if __name__ == "__main__":
    import sys

    for table in run("--quick" in sys.argv):
        print(table.markdown())
