"""A copy of the repository to run the workflow in, so that a benchmark leaves no trace."""

from __future__ import annotations

import shutil
from pathlib import Path

from measure import REPOSITORY

# Outputs, caches and the environment stay behind; whatever else starts with a dot does too.
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "results", "data")


def copy_repository(folder: Path) -> Path:
    """Copy the sources below ``folder`` and return the copy's root."""
    return Path(shutil.copytree(REPOSITORY, folder / "foley", ignore=LEFT_OUT))
