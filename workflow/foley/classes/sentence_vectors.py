"""Sentence vectors from a BERT-like encoder in the Hugging Face format (optional extra `sentence`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BATCH = 64
# Class descriptions are a line long; this only bounds memory for whole paragraphs.
_MAX_TOKENS = 256


def embed_sentences(texts: Sequence[str], model: str, revision: str | None = None) -> np.ndarray:
    """Embed `texts`: float32 [N, D], the mean over each text's tokens, scaled to length 1.

    This is how sentence-transformers models such as all-MiniLM-L6-v2 are meant to be pooled.

    Args:
        texts: At least one text.
        model: A local directory or a model id of the Hugging Face hub.
        revision: Commit, tag or branch on the hub; pin it. Ignored for a directory.

    Raises:
        ImportError: The package transformers isn't installed.
        FileNotFoundError: There is no such model, or it can't be fetched.
    """
    if not texts:
        raise ValueError("embed_sentences needs at least one text")
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise ImportError("sentence vectors need transformers: pip install 'foley[sentence]'") from error

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        encoder = AutoModel.from_pretrained(model, revision=revision).eval()
    except (
        OSError
    ) as error:  # what transformers raises for everything from a missing file to a missing network
        raise FileNotFoundError(
            f"sentence model {model!r} (revision {revision or 'default'}) can't be loaded: {error}. "
            "Give a local directory with config, weights and tokenizer, or a model id of huggingface.co"
        ) from error

    max_tokens = min(_MAX_TOKENS, tokenizer.model_max_length)
    vectors = []
    for start in range(0, len(texts), _BATCH):
        batch = list(texts[start : start + _BATCH])
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.no_grad():
            states = encoder(**tokens).last_hidden_state  # [B, L, D]
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors.append(torch.nn.functional.normalize(mean.float(), dim=1).numpy())
    return np.concatenate(vectors)
