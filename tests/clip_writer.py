"""The type of the fixture `write_clip`, for the signatures of tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

WriteClip: TypeAlias = Callable[..., np.ndarray]
