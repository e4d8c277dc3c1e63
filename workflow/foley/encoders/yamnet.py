"""The YAMNet-like network of the zero-shot study, trained from scratch on the seen classes only.

Sims et al., ZeroDiffusion (arXiv 2412.03771), after YAMNet (MobileNet v1 on log-mel spectrograms): one 3x3
convolution, six depthwise-separable ones, global average pooling, dropout, a linear layer with batch norm and
ReLU (the embedding), and the class layer, which is used in training alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from foley.runtime.seeds import derive
from foley.tables import atomic_file
from foley.training.checkpoint import Checkpoint
from foley.training.loop import EarlyStopping, History, Precision, autocast_dtype, choose_device, fit

log = logging.getLogger(__name__)

# Channels and strides of the depthwise-separable convolutions (YAMNet's layers 2 to 7, the first six).
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))
# YAMNet's batch norm; the common 1e-5 changes its numbers.
BATCH_NORM_EPS = 1e-4


@dataclass(frozen=True)
class YAMNetOptions:
    """Architecture and schedule. The defaults are the published ones, but for ``schedule``.

    patience: epochs without a lower validation loss before training stops.
    schedule: ``constant`` (published) or ``one_cycle`` (linear warm-up, cosine decay to zero: for few epochs).
    spec_masks: SpecAugment masks per axis in training; 0 (published) for none.
    """

    dim: int = 128
    dropout: float = 0.5
    epochs: int = 3000
    patience: int = 200
    batch_size: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    spec_masks: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("dim", "epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.learning_rate <= 0 or not 0 <= self.dropout < 1 or self.spec_masks < 0:
            raise ValueError("learning_rate must be positive, dropout in [0, 1), spec_masks not negative")


class _Convolution(nn.Conv2d):
    """A 3x3 convolution with TensorFlow's SAME padding: with stride 2 the extra cell goes behind."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, groups=groups, bias=False)
        self.step = stride

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // self.step) - 1) * self.step + 3 - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, stride=self.step, groups=self.groups)


def _block(convolution: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS), nn.ReLU(inplace=True))


class YAMNet(nn.Module):
    """Log-mel windows [B, frames, mels] -> embeddings [B, dim] (``embed``) or class scores [B, C]."""

    input_mean: Tensor
    input_std: Tensor

    def __init__(self, classes: int, options: YAMNetOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else YAMNetOptions()
        channels = 32
        layers = [_block(_Convolution(1, channels, 2), channels)]
        for outputs, stride in BLOCKS:
            layers += [
                _block(_Convolution(channels, channels, stride, groups=channels), channels),
                _block(nn.Conv2d(channels, outputs, 1, bias=False), outputs),
            ]
            channels = outputs
        self.body = nn.Sequential(*layers)
        self.neck = nn.Sequential(
            nn.Dropout(o.dropout), nn.Linear(channels, o.dim), nn.BatchNorm1d(o.dim), nn.ReLU()
        )
        self.head = nn.Linear(o.dim, classes)
        self.register_buffer("input_mean", torch.zeros(()))
        self.register_buffer("input_std", torch.ones(()))

    def standardise(self, features: Tensor) -> Tensor:
        """Scale raw log-mel values as the training clips were."""
        return (features - self.input_mean) / self.input_std

    def embed(self, features: Tensor) -> Tensor:
        """[B, frames, mels] -> [B, dim], not negative."""
        x = features.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        return self.neck(self.body(x).mean(dim=(2, 3)))

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.embed(features))


def _epoch_batches(rows: np.ndarray, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    order = np.random.default_rng(derive(seed, "order", epoch)).permutation(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        if len(part) > 1:  # batch norm has no variance over one clip
            yield torch.from_numpy(part)


def _mask_spectrogram(x: Tensor, masks: int) -> Tensor:
    """SpecAugment (Park et al. 2019): blank ``masks`` bands of up to a quarter of the mels and an eighth of the
    frames, drawn for each clip; the standardised mean, zero, fills them."""
    batch, frames, mels = x.shape
    for size, most, axis in ((mels, mels // 4, 2), (frames, frames // 8, 1)):
        for _ in range(masks):
            width = torch.rand(batch, 1, device=x.device) * most
            start = torch.rand(batch, 1, device=x.device) * (size - width)
            cells = torch.arange(size, device=x.device)
            hit = (cells >= start) & (cells < start + width)
            x = x.masked_fill(hit.unsqueeze(3 - axis), 0.0)
    return x


class YAMNetEncoder:
    """The network with its training: a trained encoder of this room."""

    Options = YAMNetOptions

    def __init__(self, options: YAMNetOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.device = choose_device()
        self.model: YAMNet | None = None

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        train: np.ndarray,
        validation: np.ndarray,
        *,
        classes: int,
        checkpoint: Checkpoint | None = None,
    ) -> History:
        """Train on seen classes, stopping early on seen-class validation loss.

        Args:
            features: [N, frames, mels] float32.
            labels: [N] class indices in [0, classes); only those of ``train`` and ``validation`` are read.
            train, validation: row numbers.

        Raises:
            ValueError: too few training or validation rows.
        """
        if len(train) < 2 or not len(validation):
            raise ValueError(
                f"{len(train)} training and {len(validation)} validation clips: too few to train"
            )
        o, device = self.options, self.device
        torch.manual_seed(derive(self.seed, "initialise"))
        # Depthwise convolutions run faster with the channels innermost.
        model = YAMNet(classes, o).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        # Standardised by the training clips; kept in the model so that embedding needs nothing else.
        model.input_mean.fill_(float(features[train].mean()))
        model.input_std.fill_(float(features[train].std()))
        inputs, targets = torch.from_numpy(features), torch.from_numpy(labels).long()

        def loss(rows: Tensor) -> Tensor:
            x = model.standardise(inputs[rows].to(device, non_blocking=True))
            if o.spec_masks:
                x = _mask_spectrogram(x, o.spec_masks)
            return functional.cross_entropy(model(x), targets[rows].to(device))

        def validate() -> dict[str, float]:
            total, right = 0.0, 0
            for part in torch.from_numpy(validation).split(100):
                scores = model(model.standardise(inputs[part].to(device))).float()
                wanted = targets[part].to(device)
                total += functional.cross_entropy(scores, wanted, reduction="sum").item()
                right += int((scores.argmax(1) == wanted).sum())
            return {
                "validation_loss": total / len(validation),
                "validation_accuracy": right / len(validation),
            }

        optimiser = torch.optim.Adam(model.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
        steps = sum(1 for _ in _epoch_batches(train, o.batch_size, self.seed, 0))
        scheduler = (
            torch.optim.lr_scheduler.OneCycleLR(
                optimiser, o.learning_rate, total_steps=steps * o.epochs, pct_start=0.2
            )
            # A handful of steps leaves nothing to warm up.
            if o.schedule == "one_cycle" and steps * o.epochs >= 10
            else None
        )
        return fit(
            model,
            optimiser,
            batches=lambda epoch: _epoch_batches(train, o.batch_size, self.seed, epoch),
            loss=loss,
            epochs=o.epochs,
            seed=self.seed,
            validate=validate,
            early_stopping=EarlyStopping("validation_loss", o.patience),
            scheduler=scheduler,
            autocast=autocast_dtype(o.precision, device),
            checkpoint=checkpoint,
            name="encoder",
        )

    @torch.inference_mode()
    def embed(self, features: np.ndarray, batch_size: int = 100) -> np.ndarray:
        """[N, frames, mels] float32 -> [N, dim] float32, in float32 arithmetic."""
        if self.model is None:
            raise RuntimeError("fit() first")
        self.model.eval()
        parts = np.array_split(features, max(1, -(-len(features) // batch_size)))
        return np.concatenate(
            [
                self.model.embed(self.model.standardise(torch.from_numpy(part).to(self.device))).cpu().numpy()
                for part in parts
            ]
        )

    def save(self, path: Path) -> None:
        """Weights as safetensors, whole or not at all."""
        if self.model is None:
            raise RuntimeError("fit() first")
        with atomic_file(path) as temporary:
            save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, temporary)
