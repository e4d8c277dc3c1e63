"""Flat state dicts of published networks: read as tensors only, and held against the shapes that a network has."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NAMED = 5
# What reading a file of weights raises that is cut off, no such file, or holds more than tensors.
DAMAGE = (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError, OSError)


def damaged(path: Path, what: str, error: Exception) -> ValueError:
    """The error for a file that could not be read as ``what``."""
    # Only its first line: PyTorch goes on to say how to run code from the file.
    return ValueError(
        f"{path} ({path.stat().st_size:,} bytes) is no readable {what}: it may be truncated, a web page saved under "
        f"that name, or hold more than tensors: {(str(error).splitlines() or [type(error).__name__])[0]}"
    )


def read_state_dict(path: Path, model: str, allowed: Sequence[Any] = ()) -> dict[str, Tensor]:
    """A PyTorch file's parameters by name.

    Args:
        model: whose they are, for the messages.
        allowed: what may be in the file beside tensors (``torch.serialization.safe_globals``); arrays become tensors.

    Raises:
        ValueError: the file is damaged, or no flat state dict.
    """
    with open(path, "rb") as file:
        try:
            with torch.serialization.safe_globals(list(allowed)):
                state = torch.load(file, map_location="cpu", weights_only=True)
        except DAMAGE as error:
            raise damaged(path, "PyTorch state dict", error) from error
    return flat(state, path, model)


def flat(state: Any, path: Path, model: str) -> dict[str, Tensor]:
    """``state`` if it holds tensors (or arrays) by name.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(state, dict) or not all(isinstance(v, Tensor | np.ndarray) for v in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__}, not the flat state dict of {model}")
    return {name: torch.as_tensor(value) for name, value in state.items()}


def check_shapes(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    path: Path,
    wrong: str,
    remedy: str = "",
) -> None:
    """Raise ValueError unless the state dict has exactly the expected parameters.

    Args:
        wrong: what the file then is: ``is not of VGGish``.
        remedy: a sentence that says what to do.
    """
    problems = [f"lacks {name}" for name in expected if name not in state]
    problems += [f"has an unknown {name}" for name in state if name not in expected]
    problems += [
        f"{name} is {list(state[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != tuple(shape)
    ]
    if problems:
        more = f" (and {len(problems) - _NAMED} more)" if len(problems) > _NAMED else ""
        raise ValueError(f"{path} {wrong}: {'; '.join(problems[:_NAMED])}{more}. {remedy}".removesuffix(". "))
