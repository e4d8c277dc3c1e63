"""A small world in which audio follows from the class vector, to try generators and zero-shot classifiers on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from foley.generators.embedding.protocol import SeenData
from foley.training.checkpoint import Checkpoint

DIM, CONDITION = 10, 3


@dataclass(frozen=True)
class World:
    """Embeddings of seen and unseen classes, an image of their class's vector plus noise."""

    seen: SeenData
    vectors: Tensor  # seen classes first
    unseen_embeddings: Tensor
    unseen_classes: Tensor  # from 0

    @property
    def unseen_vectors(self) -> Tensor:
        return self.vectors[len(self.seen.vectors) :]

    def resumed_equals_uninterrupted(
        self, kind: Any, options: Any, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A training that stops in its third epoch and goes on gives the samples of one that never stopped."""
        whole = kind(options, [0, 1])
        whole.fit(self.seen)
        # Every epoch leaves a checkpoint.
        monkeypatch.setattr("time.monotonic", itertools.count(0, 60).__next__)
        broken = kind(options, [0, 1])
        shuffled, calls = broken.shuffled, itertools.count(1)

        def stop(*given: Any) -> Any:
            if next(calls) > 2 * self.shuffles(options):
                raise KeyboardInterrupt
            return shuffled(*given)

        monkeypatch.setattr(broken, "shuffled", stop)
        with pytest.raises(KeyboardInterrupt):
            broken.fit(self.seen, checkpoint=checkpoint)
        saved = checkpoint.load()
        assert saved is not None and saved["epochs_done"] == 2
        again = kind(options, [0, 1])
        again.fit(self.seen, checkpoint=checkpoint)
        assert again.history == whole.history
        assert torch.equal(again.sample(self.unseen_vectors, 4), whole.sample(self.unseen_vectors, 4))

    @staticmethod
    def shuffles(options: Any) -> int:
        """How often the rows are shuffled in an epoch."""
        return getattr(options, "critic_steps", 1)


def world(seen: int = 12, unseen: int = 3, clips: int = 10, noise: float = 0.1, seed: int = 0) -> World:
    """Unit class vectors on a sphere, embeddings a smooth image of them in [0, about 2]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    # Unseen classes lie between seen ones and far from each other.
    apart = torch.eye(CONDITION)[:unseen] if unseen <= CONDITION else normal(unseen, CONDITION)
    vectors = torch.nn.functional.normalize(
        torch.cat([normal(seen, CONDITION), apart + 0.1 * normal(unseen, CONDITION)]), dim=1
    )
    image = normal(CONDITION, DIM)
    classes = torch.arange(seen + unseen).repeat_interleave(clips)
    embeddings = 1 + torch.tanh(vectors[classes] @ image) + noise * normal(len(classes), DIM)
    embeddings = embeddings.clamp(min=0)
    order = torch.randperm(seen * clips, generator=generator)
    first = seen * clips
    return World(
        SeenData(embeddings[:first][order], classes[:first][order], vectors[:seen]),
        vectors,
        embeddings[first:],
        classes[first:] - seen,
    )


def seeds_alone_equal_seeds_together(kind: Any, options: Any, toy: World) -> None:
    def train(seeds: list[int]) -> Tensor:
        model = kind(options, seeds)
        model.fit(toy.seen)
        return model.sample(toy.unseen_vectors, 5)

    together = train([3, 4, 9])
    assert not torch.allclose(together[0], together[1])
    for number, seed in enumerate([3, 4, 9]):
        torch.testing.assert_close(together[number], train([seed])[0], atol=1e-4, rtol=1e-3)
