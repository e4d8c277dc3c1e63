"""Let torchaudio import beside a CPU build of torch.

Its wheels are linked against CUDA; without their optional native libraries torchaudio falls back to pure Python,
which is all that Foley uses (mel filter banks, resampling). With a CUDA build of torch nothing is touched.
"""

import importlib.util
from pathlib import Path

import torch

spec = importlib.util.find_spec("torchaudio")
if torch.version.cuda is None and spec is not None and spec.origin is not None:
    for library in (Path(spec.origin).parent / "lib").glob("*.so"):
        library.unlink()
