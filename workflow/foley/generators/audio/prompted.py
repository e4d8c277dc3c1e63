"""What a prompted generator is: a pretrained model that makes audio from sentences.

**A clip depends on its own prompt and seed.** Three things could tie it to the batch that it is made in:

- *Random numbers.* Every clip has a stream of its own, drawn on the CPU, whatever the device; of Stable Audio only the
  first noise is, what its solver adds is drawn on the device, for each clip from its own seed.
- *Padding.* Neither audiocraft's cross-attention nor the language model of AudioLDM 2 ignores padded tokens, so that a
  short prompt beside a long one would sound otherwise than alone. Prompts of one batch have one length in tokens.
- *Rounding.* Matrix products of another number of rows may round otherwise. In float32 a clip differs by that much; in
  half precision an autoregressive model may in time choose another token, which makes another clip of the same kind.
  With the same batches, clips are the same to the bit.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from foley.download.http import is_offline
from foley.generators.audio.published import pinned, published_model
from foley.training.loop import choose_device

log = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class PromptedOptions:
    """What all prompted generators are asked for.

    duration_s: length of a clip, seconds.
    batch_size: clips at once; halved when the memory is full.
    attempts: how often a clip is drawn that comes out silent, clipped or not finite, each time from another seed.
    max_clipped: part of a clip's samples that may lie at full scale or beyond.
    max_rejected: part of a shard's clips that may fail all attempts before the job does; one always may.
    licence: identifier on the Hugging Face hub of the licence of a model that is not one of `published.py`.
    """

    duration_s: float = 5.0
    batch_size: int = 32
    attempts: int = 4
    max_clipped: float = 0.01
    max_rejected: float = 0.05
    licence: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.attempts < 1:
            raise ValueError(f"batch_size {self.batch_size} and attempts {self.attempts} must be at least 1")
        if self.duration_s <= 0:
            raise ValueError(f"duration_s {self.duration_s:g} must be positive")
        for name in ("max_clipped", "max_rejected"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name):g} must lie in [0, 1]")
        model = str(getattr(self, "model", ""))
        known = published_model(model)
        if known is not None and self.licence not in (None, known.licence.identifier):
            raise ValueError(
                f"licence {self.licence!r} is not that of {model}, which is under {known.licence.name}; leave it "
                "out: it is for models that are not known here"
            )


# Options that a clip does not depend on, rounding apart.
NO_MATTER = frozenset({"batch_size", "compile", "max_rejected", "licence"})


class PromptedGenerator(Protocol):
    """A generator of clips from sentences; its ``Options`` are :class:`PromptedOptions`."""

    Options: ClassVar[type]

    def __init__(self, options: Any) -> None: ...

    @property
    def options(self) -> Any: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def model_id(self) -> str:
        """Hub id or folder of the model, or the kind where there is none."""

    @property
    def model_revision(self) -> str | None:
        """Commit of a hub id."""

    def identity(self) -> dict[str, Any]:
        """What clips depend on beside prompt, seed, duration and options: weights, precision, versions."""

    def facts(self) -> dict[str, Any]:
        """Columns of SYNTHETIC_CLIPS that are the same for all clips: sampler, steps, guidance."""

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt; those of one batch have equally many."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        """One clip for each (prompt, seed): [N, C, T] float32 on the CPU.

        Raises:
            ValueError: as many seeds as prompts are not given, or the duration does not suit the model.
        """


@runtime_checkable
class Ranking(Protocol):
    """A generator that can say which of several candidates suits a prompt best."""

    def candidates(self) -> int:
        """How many to draw for each clip; 1 ranks nothing."""

    def scores(self, prompts: Sequence[str], audio: Tensor) -> list[float]:
        """How well each clip [N, C, T] suits its prompt [N]: more is better."""


def plan_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers of each batch: prompts of one length, shortest first, in their order."""
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows_of.setdefault(length, []).append(row)
    return [
        rows[start : start + batch_size]
        for _, rows in sorted(rows_of.items())
        for start in range(0, len(rows), batch_size)
    ]


def dtype_of(precision: Precision, device: torch.device, half: torch.dtype) -> torch.dtype:
    """The dtype to compute in; ``auto`` is ``half`` on CUDA and float32 elsewhere.

    Raises:
        ValueError: float16 on a CPU, which lacks many of its operations.
    """
    if precision == "auto":
        return half if device.type == "cuda" else torch.float32
    if precision == "float16" and device.type != "cuda":
        raise ValueError(
            f"precision `float16` needs a CUDA device, this is {device.type}; use `auto` or `bfloat16`"
        )
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


def streams(seeds: Sequence[int]) -> list[torch.Generator]:
    """A stream of random numbers for each seed. On the CPU, so that a clip's are the same on any device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def folder_of(model: str, revision: str | None, fetch: Callable[[str, str], Path]) -> tuple[Path, str | None]:
    """A model's local folder and its commit: the folder itself (no commit), or a snapshot of a hub id.

    Snapshots lie in the cache of huggingface_hub (HF_HOME), which also knows the user's token.

    Args:
        fetch: hub id and commit -> folder.

    Raises:
        FileNotFoundError: no such folder, or the model cannot be had; says what to do.
        ValueError: a hub id without a pinned commit.
    """
    local = Path(model).expanduser()
    if local.is_dir():
        return local, None
    if local.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise FileNotFoundError(
            f"there is no folder {model}; correct the path, or give a model id of the hub"
        )
    commit = pinned(model, revision)
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return fetch(model, commit), commit
    except GatedRepoError:
        raise FileNotFoundError(
            f"model {model!r} is gated: open https://huggingface.co/{model}, accept its licence, then log in with "
            "`hf auth login` or set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"there is no folder and no model {model!r} on the hub, or it is private: correct its name"
        ) from None
    except OSError as error:
        # The library's own messages may hold signed URLs.
        offline = ", and Foley is offline" if is_offline() else ""
        raise FileNotFoundError(
            f"model {model!r} at commit {commit} is not here{offline} ({type(error).__name__}): run "
            f"`hf download {model} --revision {commit}` where there is a network; it fills the cache below HF_HOME"
        ) from None


def fetch_files(*patterns: str) -> Callable[[str, str], Path]:
    """What fetches the files of a model that match, for :func:`folder_of`."""

    def fetch(model: str, commit: str) -> Path:
        from huggingface_hub import snapshot_download

        found = snapshot_download(
            model, revision=commit, allow_patterns=list(patterns), local_files_only=is_offline()
        )
        return Path(found)

    return fetch


def check_files(model: str, folder: Path, *names: str) -> None:
    """Raise FileNotFoundError unless the folder of a model holds these."""
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"model {model!r} lacks {', '.join(lacking)} in {folder}; get the whole checkpoint, for example with "
            "`hf download <model id> --revision <commit> --local-dir <folder>`"
        )


def content_of(folder: Path, commit: str | None, files: Sequence[str]) -> str:
    """What stands for a model's weights: its commit, or a hash over the content of the files of a local folder."""
    if commit is not None:
        return commit
    whole = hashlib.sha256()
    for path in sorted({path for name in files for path in folder.glob(name) if path.is_file()}):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}:{digest}\n".encode())
    return whole.hexdigest()


def without_bars() -> None:
    """No progress bars of libraries: they are no lines of a log."""
    from transformers.utils import logging as of_transformers

    of_transformers.disable_progress_bar()
    from diffusers.utils import logging as of_diffusers

    of_diffusers.disable_progress_bar()


def first_line(error: BaseException) -> str:
    """Of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions without local parts (``+cpu``)."""
    from importlib.metadata import version

    return {package: version(package).partition("+")[0] for package in packages}


class PretrainedGenerator(ABC):
    """Batches, one length of prompts each; out of memory, it goes on with half the batch, and stays there."""

    Options: ClassVar[type]
    _commit: str | None = None  # of a hub id; set by what loads it

    def __init__(self, options: Any) -> None:
        self.options = options
        self.device = choose_device()
        self.batch_size: int = options.batch_size

    @property
    def model_id(self) -> str:
        return str(self.options.model)

    @property
    def model_revision(self) -> str | None:
        return self._commit

    @property
    @abstractmethod
    def sample_rate_hz(self) -> int: ...

    @abstractmethod
    def lengths(self, prompts: Sequence[str]) -> list[int]: ...

    @abstractmethod
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        """A batch of prompts of one length: [N, C, T]."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        """One clip for each (prompt, seed): [N, C, T] float32 on the CPU; see :class:`PromptedGenerator`."""
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed for each")
        if not prompts:
            raise ValueError("no prompts; give at least one")
        blank = [row for row, prompt in enumerate(prompts) if not prompt.strip()]
        if blank:
            raise ValueError(f"prompt number {blank[0]} is empty; write one, or leave its clip out")

        def draw(rows: Sequence[int]) -> Tensor:
            own, own_seeds = [prompts[row] for row in rows], [seeds[row] for row in rows]
            with torch.no_grad():
                return self.draw(own, own_seeds, duration_s).to("cpu", torch.float32)

        found: dict[int, Tensor] = {}
        for planned in plan_batches(self.lengths(prompts), self.batch_size):
            for rows, made in self.halving(draw, planned):
                found.update(zip(rows, made, strict=True))
        return torch.stack([found[row] for row in range(len(prompts))])

    def halving(
        self, run: Callable[[Sequence[int]], Tensor], rows: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], Tensor]]:
        """``run`` on parts of ``rows`` that fit into memory."""
        start = 0
        while start < len(rows):
            part = rows[start : start + self.batch_size]
            try:
                made = run(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
            else:
                yield part, made
                start += len(part)
                continue
            # Outside of the handler: the error holds the frames whose tensors fill the memory.
            self.batch_size = max(len(part) // 2, 1)
            log.warning("out of memory; going on with %d clips at once", self.batch_size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
