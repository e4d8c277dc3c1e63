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


def first_of_many_are_a_smaller_draw(kind: Any, options: Any, toy: World) -> None:
    """Learning curves read them so, and a method's figures must not move with the number that a curve asks for."""
    model = kind(options, [0, 1])
    model.fit(toy.seen)
    many = model.sample(toy.unseen_vectors, 23)
    for count in (1, 8, 12):
        made = model.sample(toy.unseen_vectors, count)
        torch.testing.assert_close(made, many[:, :, :count], atol=1e-5, rtol=1e-4)


def seeds_alone_equal_seeds_together(kind: Any, options: Any, toy: World) -> None:
    def train(seeds: list[int]) -> Tensor:
        model = kind(options, seeds)
        model.fit(toy.seen)
        return model.sample(toy.unseen_vectors, 5)

    together = train([3, 4, 9])
    assert not torch.allclose(together[0], together[1])
    for number, seed in enumerate([3, 4, 9]):
        torch.testing.assert_close(together[number], train([seed])[0], atol=1e-4, rtol=1e-3)


def resumed_equals_uninterrupted(
    kind: Any, options: Any, toy: World, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that dies in its third epoch and goes on gives what one that never stopped gives."""
    whole = kind(options, [0, 1])
    whole.fit(toy.seen)
    # Every epoch leaves a checkpoint.
    monkeypatch.setattr("time.monotonic", itertools.count(0, 60).__next__)
    broken = kind(options, [0, 1])
    streams = broken.streams

    def stop(*names: object) -> Any:
        if names == ("epoch", 2):
            raise KeyboardInterrupt
        return streams(*names)

    monkeypatch.setattr(broken, "streams", stop)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(toy.seen, checkpoint=checkpoint)
    saved = checkpoint.load()
    assert saved is not None and saved["epochs_done"] == 2
    again = kind(options, [0, 1])
    again.fit(toy.seen, checkpoint=checkpoint)
    assert again.history == whole.history
    assert torch.equal(again.sample(toy.unseen_vectors, 4), whole.sample(toy.unseen_vectors, 4))
