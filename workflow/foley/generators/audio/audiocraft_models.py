"""AudioGen and MusicGen by audiocraft 1.3: what both share.

Sources: F. Kreuk et al., "AudioGen: textually guided audio generation", ICLR 2023 (arXiv 2209.15352); J. Copet et al.,
"Simple and controllable music generation", NeurIPS 2023 (arXiv 2306.05284). A language model over four streams of
EnCodec tokens, conditioned on a T5 encoder by cross-attention, with classifier-free guidance.

audiocraft loads and generates; around it stand here: the pinned snapshot and T5 encoder, a stream of random numbers for
each clip, and batches of prompts of one length. There is no option to compile: its cache of keys and values grows by
one step at each of some 250 steps, so a compiled graph fits none but its own step.
"""

from __future__ import annotations

import importlib.util
import logging
import logging.config
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from foley.generators.audio.prompted import (
    Precision,
    PretrainedGenerator,
    PromptedOptions,
    check_files,
    content_of,
    dtype_of,
    fetch_files,
    first_line,
    folder_of,
    streams,
    versions_of,
    without_bars,
)

log = logging.getLogger(__name__)

LANGUAGE_MODEL, CODEC = "state_dict.bin", "compression_state_dict.bin"
# Of a text encoder: what is fetched, and what a folder may hold.
T5_FETCHED = ("config.json", "model.safetensors*", "tokenizer*", "spiece.model", "special_tokens_map.json")
T5_FILES = (*T5_FETCHED, "pytorch_model*")
# The encoders that published models were trained with; a checkpoint names its own without a commit.
T5_PINS = {
    "t5-base": ("google-t5/t5-base", "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1"),
    "t5-large": ("google-t5/t5-large", "150ebc2c4b72291e770f58e6057481c8d2ed331a"),
}
# What reading a file of weights raises that is cut off, no such file, or holds more than tensors.
DAMAGE = (RuntimeError, EOFError, OSError, UnpicklingError)
# Steps whose random numbers are drawn at once.
_STEPS_AHEAD = 64


@dataclass(frozen=True, kw_only=True)
class AudioCraftOptions(PromptedOptions):
    """How a model of audiocraft samples; defaults are the library's own.

    model: hub id, or folder with ``state_dict.bin`` and ``compression_state_dict.bin``.
    revision: commit of a hub id; None takes the one pinned in `published.py`.
    t5: folder of the text encoder; None looks for a folder of its name (``t5-large``) in the model's own, then on the
        hub at a pinned commit.
    temperature, top_k, top_p: of sampling; ``top_p`` above 0 replaces ``top_k``.
    guidance: scale of classifier-free guidance.
    extend_stride_s: clips longer than the model's own length are continued in strides of this many seconds.
    precision: ``auto`` is float16 on CUDA, in which the weights are published, and float32 on the CPU.
    """

    model: str
    revision: str | None = None
    t5: str | None = None
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    guidance: float = 3.0
    extend_stride_s: float = 2.0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.top_k < 0 or not 0 <= self.top_p <= 1:
            raise ValueError("temperature must be positive, top_k at least 0, top_p in [0, 1]")
        if self.extend_stride_s <= 0:
            raise ValueError(f"extend_stride_s {self.extend_stride_s:g} must be positive")


class AudioCraftGenerator(PretrainedGenerator):
    """A language model of audiocraft, loaded."""

    options: AudioCraftOptions
    kind: str  # of audiocraft.models

    def __init__(self, options: AudioCraftOptions) -> None:
        super().__init__(options)
        dtype = dtype_of(options.precision, self.device, torch.float16)
        fetch = fetch_files(LANGUAGE_MODEL, CODEC)
        self._folder, self._commit = folder_of(options.model, options.revision, fetch)
        check_files(options.model, self._folder, LANGUAGE_MODEL, CODEC)
        _check_codec(self._folder / CODEC)
        self._text_encoders: dict[str, Path] = {}
        import_audiocraft()
        without_bars()
        from audiocraft import models

        with _text_encoders(self._text_encoder):
            try:
                self._model = getattr(models, self.kind).get_pretrained(
                    str(self._folder), device=self.device.type
                )
            except FileNotFoundError:  # of the text encoder
                raise
            except (*DAMAGE, LookupError, AttributeError, AssertionError) as error:
                # Only its first line: PyTorch goes on to say how to run code from the file.
                raise ValueError(
                    f"model {options.model!r} is no whole {self.kind} checkpoint of audiocraft: "
                    f"{first_line(error)}"
                ) from error
        _compute_in(self._model, dtype)
        self._dtype = dtype
        self._tokenizers = [
            conditioner.t5_tokenizer
            for conditioner in self._model.lm.condition_provider.conditioners.values()
            if hasattr(conditioner, "t5_tokenizer")
        ]

    @property
    def sample_rate_hz(self) -> int:
        return int(self._model.sample_rate)

    def identity(self) -> dict[str, Any]:
        """What clips depend on beside prompt, seed, duration and options."""
        return {
            "weights": content_of(self._folder, self._commit, (LANGUAGE_MODEL, CODEC)),
            "text_encoders": {
                name: content_of(folder, None, T5_FILES) for name, folder in self._text_encoders.items()
            },
            "dtype": str(self._dtype),
            "device": self.device.type,
            "versions": versions_of("torch", "audiocraft", "transformers"),
        }

    def facts(self) -> dict[str, Any]:
        o = self.options
        sampler = f"top-p {o.top_p:g}" if o.top_p > 0 else f"top-k {o.top_k}"
        return {"sampler": f"{sampler}, temperature {o.temperature:g}", "guidance": o.guidance}

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        if not self._tokenizers:
            return [0] * len(prompts)
        return [sum(len(tokenizer(prompt).input_ids) for tokenizer in self._tokenizers) for prompt in prompts]

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        o, model = self.options, self._model
        if duration_s > model.max_duration and o.extend_stride_s >= model.max_duration:
            raise ValueError(
                f"extend_stride_s {o.extend_stride_s:g} must be below {model.max_duration:g} s, the length that "
                f"{o.model} was trained on, to make clips of {duration_s:g} s"
            )
        if int(duration_s * model.frame_rate) < 1:
            raise ValueError(f"duration_s {duration_s:g} is shorter than a frame of {o.model}")
        model.set_generation_params(
            use_sampling=True,
            top_k=min(o.top_k, model.lm.card),
            top_p=o.top_p,
            temperature=o.temperature,
            duration=duration_s,
            cfg_coef=o.guidance,
            # audiocraft asserts that it is short also where nothing is extended.
            extend_stride=min(o.extend_stride_s, 0.9 * model.max_duration),
        )
        with drawing_from(seeds):
            return model.generate(list(prompts), progress=False)

    def _text_encoder(self, name: str) -> Path:
        """The folder of a T5 that a checkpoint names."""
        beside = self._folder / name
        if self.options.t5 is not None:
            folder = Path(self.options.t5).expanduser()
            check_files(self.options.t5, folder, "config.json")
        elif beside.is_dir():
            folder = beside
        elif name in T5_PINS:
            repository, commit = T5_PINS[name]
            folder = folder_of(repository, commit, fetch_files(*T5_FETCHED))[0]
        else:
            raise FileNotFoundError(
                f"{self.options.model} needs the text encoder {name}, of which no commit is pinned: put its files "
                f"into {beside}, or name their folder as `t5`"
            )
        self._text_encoders[name] = folder
        return folder


class Draws:
    """Random choices among tokens, a stream of random numbers for each row.

    Stands for ``torch.multinomial``, which draws all rows from one stream, so that a row's choices depend on how many
    rows there are. By inversion of the cumulative distribution: one uniform number a choice, so that numbers can be
    drawn ahead, many steps at once, on the CPU.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = streams(seeds)
        self._ahead: Tensor | None = None
        self._next = 0

    def uniform(self, choices: int, device: torch.device) -> Tensor:
        """The next numbers in [0, 1): [rows, choices] float64, each a multiple of 2^-24."""
        if self._ahead is None or self._next == _STEPS_AHEAD or self._ahead.shape[2] != choices:
            drawn = [torch.rand(_STEPS_AHEAD, choices, generator=stream) for stream in self._streams]
            self._ahead, self._next = torch.stack(drawn, dim=1).to(device).double(), 0
        self._next += 1
        return self._ahead[self._next - 1]

    def multinomial(
        self, input: Tensor, num_samples: int, replacement: bool = False, *, generator: object = None
    ) -> Tensor:
        """One index for each distribution [rows, choices, N], which need not sum to 1: [rows, choices, 1]."""
        if num_samples != 1 or input.ndim != 3 or len(input) != len(self._streams):
            raise RuntimeError(
                f"audiocraft asks for {num_samples} samples of {list(input.shape)}, expected one of "
                f"[{len(self._streams)}, choices, tokens]; install audiocraft 1.3.0"
            )
        cumulative = input.double().cumsum(-1)
        # A number is below 1 by 2^-24 at least, so it stays below the total, and what has no probability is not chosen.
        wanted = self.uniform(input.shape[1], input.device)[..., None] * cumulative[..., -1:]
        return (cumulative <= wanted).sum(-1, keepdim=True).clamp_max(input.shape[-1] - 1)


@contextmanager
def drawing_from(seeds: Sequence[int]) -> Iterator[None]:
    """Let audiocraft choose tokens by a stream for each row; its sampling functions all go through one."""
    from audiocraft.utils import utils

    original = utils.multinomial
    utils.multinomial = Draws(seeds).multinomial
    try:
        yield
    finally:
        utils.multinomial = original


def import_audiocraft() -> None:
    """Import audiocraft without what its installation would need and generating does not.

    Raises:
        ImportError: audiocraft is not installed.
    """
    if importlib.util.find_spec("audiocraft") is None:
        raise ImportError("AudioGen and MusicGen need audiocraft: `make install` installs it")
    for name, fill in (("xformers", _fill_xformers), ("spacy", _fill_spacy)):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            fill(_stand_in(name))
    with _log_kept_open():
        import audiocraft.models  # noqa: F401
    # audiocraft holds on to it. Others, such as `datasets`, ask for its classes where they find it among the modules.
    stand_in = sys.modules.get("spacy")
    if stand_in is not None and stand_in.__spec__ is not None and stand_in.__spec__.loader is None:
        del sys.modules["spacy"]


@contextmanager
def _log_kept_open() -> Iterator[None]:
    """Keep submitit, which audiocraft imports, from configuring logging: that closes the handlers of everybody, after
    which a job's log stays as it is without a word."""
    original = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = original


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name, "A stand-in, since the package is not installed.")
    module.__spec__ = ModuleSpec(name, loader=None)
    sys.modules[name] = module
    return module


def _fill_xformers(module: ModuleType) -> None:
    """xformers has kernels for attention, of which its wheels fit one version of torch each. audiocraft imports them,
    and by default computes attention with torch; of xformers it then uses `unbind`, which is that of torch."""

    def missing(*_: Any, **__: Any) -> Any:
        raise ImportError("audiocraft's xformers backend needs the package xformers; its default is torch")

    module.__path__ = []
    ops: Any = _stand_in("xformers.ops")
    ops.unbind = torch.unbind
    ops.memory_efficient_attention = missing
    ops.LowerTriangularMask = type("LowerTriangularMask", (), {})  # asked for, and only compared with None
    module.ops = ops  # type: ignore[attr-defined]


def _fill_spacy(module: ModuleType) -> None:
    """spaCy cuts words for conditioners that normalise text, which no published model has."""

    def load(*_: Any, **__: Any) -> Any:
        raise ImportError(
            "this checkpoint normalises its prompts, which needs the package spacy: pip install spacy"
        )

    module.load = load  # type: ignore[attr-defined]


class _From:
    """Stands for a class of transformers while a checkpoint loads: reads the model from where ``find`` says."""

    def __init__(self, kind: Any, find: Any, **how: Any) -> None:
        self.kind, self.find, self.how = kind, find, how

    def from_pretrained(self, name: str) -> Any:
        folder = self.find(name)
        found = self.kind.from_pretrained(folder, local_files_only=True, **self.how)
        if not isinstance(found, tuple):
            return found
        model, loading = found
        if loading["missing_keys"]:  # they would stay random numbers
            raise ValueError(
                f"the text encoder in {folder} lacks {len(loading['missing_keys'])} parameters, for example "
                f"{min(loading['missing_keys'])}; get it again, whole"
            )
        return model


@contextmanager
def _text_encoders(find: Any) -> Iterator[None]:
    """Let audiocraft find its T5 where ``find`` says; by itself it looks in the working directory, then on the hub
    without a commit."""
    conditioners: Any = import_module("audiocraft.modules.conditioners")
    before = conditioners.T5Tokenizer, conditioners.T5EncoderModel
    conditioners.T5Tokenizer = _From(before[0], find)
    conditioners.T5EncoderModel = _From(
        before[1], find, dtype=torch.float32, weights_only=True, output_loading_info=True
    )
    try:
        yield
    finally:
        conditioners.T5Tokenizer, conditioners.T5EncoderModel = before


def _check_codec(path: Path) -> None:
    """Refuse a codec that is a mere name: audiocraft would fetch it from the hub without a commit."""
    try:
        package = torch.load(path, map_location="meta", weights_only=True)
    except DAMAGE as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors: {first_line(error)}. Get it again"
        ) from error
    if "pretrained" in package:
        raise ValueError(
            f"{path} names the codec {package['pretrained']!r} in place of weights, and the hub's newest commit would "
            "be taken; use a checkpoint that has its codec's weights"
        )


def _compute_in(model: Any, dtype: torch.dtype) -> None:
    """Bring the language model to ``dtype``; the codec stays in float32, as published."""
    from audiocraft.utils.autocast import TorchAutocast

    model.lm.to(dtype)
    model.autocast = (
        TorchAutocast(enabled=False)
        if dtype == torch.float32
        else TorchAutocast(enabled=True, device_type=model.device.type, dtype=dtype)
    )
