"""Checkpoints in transformers' layout, from a folder or, pinned to a revision, from the Hugging Face hub."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from foley.download.http import is_offline


def from_transformers(what: str, *names: str) -> list[Any]:
    """Classes of transformers by their names.

    Raises:
        ImportError: transformers isn't installed; ``what`` needs it.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"{what} needs transformers: pip install 'foley[sentence]'") from error
    return [getattr(transformers, name) for name in names]


def source(what: str, model: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Where a checkpoint is, as transformers' functions take it.

    Raises:
        ValueError: an id of the hub without ``revision``.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder), {"local_files_only": True}
    if revision is None:
        raise ValueError(
            f"{what} model {model!r} is no folder here, and as an id of huggingface.co it needs `revision` (a "
            "commit), so that a rerun reads the same weights"
        )
    return model, {"revision": revision, "local_files_only": is_offline()}


def read_checkpoint(
    what: str,
    config_class: Any,
    model_class: Any,
    model: str,
    revision: str | None,
    *,
    files: str,
    example: str,
) -> Any:
    """A network in float32 with the weights of a checkpoint, all of them.

    Args:
        what: of the model, for errors; ``files`` that a local folder needs; ``example``: an id that would do.

    Raises:
        FileNotFoundError: there is no such model, or it can't be fetched.
        ValueError: it is another kind of model, or its weights are damaged, incomplete or hold more than tensors.
    """
    where, options = source(what, model, revision)
    try:
        kind = config_class.get_config_dict(where, **options)[0].get("model_type")
        if kind is None:
            raise OSError("no config.json that names a model type")
        if kind != config_class.model_type:
            raise ValueError(
                f"{what} model {model!r} is of type {kind!r}; give a checkpoint of {model_class.__name__}, for example "
                f"{example}"
            )
        loaded: Any = model_class.from_pretrained(
            where, **options, dtype=torch.float32, weights_only=True, output_loading_info=True
        )
    except OSError as error:  # what transformers raises for all from a missing file to a missing network
        raise FileNotFoundError(
            f"{what} model {model!r} (revision {revision or 'none'}) can't be loaded: {error}. Give a local folder "
            f"with {files}, or a model id of huggingface.co"
        ) from error
    except (pickle.UnpicklingError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"the weights of {what} model {model!r} are damaged, of another size, or hold more than tensors: "
            f"{str(error).splitlines()[0]}. Get the checkpoint again, if you can as model.safetensors"
        ) from error
    network, info = loaded
    # transformers fills what a checkpoint lacks with random numbers, and leaves out what it does not know.
    refuse_names(f"{what} model {model!r}", lacking=info["missing_keys"], unknown=info["unexpected_keys"])
    return network


def refuse_names(what: str, *, lacking: Any, unknown: Any) -> None:
    """
    Raises:
        ValueError: weights are lacking or unknown; names them.
    """
    problems = [f"lacks {name}" for name in sorted(lacking)] + [
        f"has an unknown {name}" for name in sorted(unknown)
    ]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ValueError(f"{what} {'; '.join(problems[:5])}{more}")
