"""An instruction-tuned model on this machine, by transformers: no key, no cost, no text leaves the house."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foley.download.http import is_offline
from foley.prompts.clients.protocol import LONGEST_ANSWER, Answer, ClientError, ClientSettings, Request

log = logging.getLogger(__name__)

_END_BYTES = 1 << 20


class LocalClient:
    """A causal language model with a chat template: a folder, or a pinned model of the Hugging Face hub."""

    @staticmethod
    def identity(settings: ClientSettings) -> Mapping[str, str]:
        folder = Path(settings.model).expanduser()
        if folder.is_dir():
            return {"client": "local", "files": _fingerprint(folder)}
        return {"client": "local", "revision": settings.revision or ""}

    def __init__(self, settings: ClientSettings) -> None:
        folder = Path(settings.model).expanduser()
        if not folder.is_dir() and not re.fullmatch(r"[0-9a-f]{40}", settings.revision or ""):
            raise ClientError(
                f"model {settings.model!r} is no folder here; a model of the hub needs `revision`, the 40 digits of a "
                "commit, so that the same model answers tomorrow"
            )
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise ClientError(
                "the client `local` needs transformers: pip install 'foley[sentence]'"
            ) from None
        source: dict[str, Any] = {
            "pretrained_model_name_or_path": str(folder) if folder.is_dir() else settings.model,
            "revision": None if folder.is_dir() else settings.revision,
            "local_files_only": folder.is_dir() or is_offline(),
            "trust_remote_code": False,
        }
        cuda = torch.cuda.is_available()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(**source)
            self._model = (
                AutoModelForCausalLM.from_pretrained(
                    **source, use_safetensors=True, dtype=torch.bfloat16 if cuda else torch.float32
                )
                .eval()
                .to("cuda" if cuda else "cpu")
            )
        except (
            OSError,
            ValueError,
        ) as error:  # what transformers raises for anything from a missing file to no network
            why = " ".join(str(error).split())[:300]
            raise ClientError(
                f"model {settings.model!r} (revision {settings.revision or 'none'}) can't be loaded: {why}. Give a "
                "folder with config, safetensors and tokenizer, or a model id of huggingface.co with its revision"
            ) from None
        if not self._tokenizer.chat_template:
            raise ClientError(f"model {settings.model!r} has no chat template: take an instruction-tuned one")
        self._turn = threading.Lock()  # one model, one set of random numbers
        self._name = settings.model if not folder.is_dir() else folder.name

    def complete(self, request: Request) -> Answer:
        import torch

        tokens = self._prompt(request).to(self._model.device)
        length = int(tokens.shape[1])
        window = getattr(self._model.config, "max_position_embeddings", None)
        room = (
            request.max_output_tokens if window is None else min(request.max_output_tokens, window - length)
        )
        if room < 1:
            raise ClientError(
                f"model {self._name!r} reads {window} tokens at most, and the question has {length}"
            )
        sampled = request.temperature > 0
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with self._turn, torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(request.seed)
            made = self._model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=room,
                do_sample=sampled,
                temperature=request.temperature if sampled else None,
                top_p=request.top_p if sampled else None,
                top_k=0 if sampled else None,
                pad_token_id=pad,
            )[0, length:]
        text = str(self._tokenizer.decode(made, skip_special_tokens=True))[:LONGEST_ANSWER]
        ends = self._model.generation_config.eos_token_id
        finished = int(made[-1]) in (ends if isinstance(ends, list) else [ends])
        return Answer(
            text=text,
            model=self._name,
            finish="STOP" if finished else "MAX_TOKENS",
            input_tokens=length,
            output_tokens=len(made),
            raw=json.dumps({"text": text}, ensure_ascii=False),
        )

    def _prompt(self, request: Request) -> Any:
        """Tokens [1, L] of the question in the model's own chat format.

        Nothing holds the model to the schema here, so it reads the schema in the instruction.
        """
        schema = json.dumps(request.schema, sort_keys=True)
        system = f"{request.system}\n\nAnswer with JSON of this schema and nothing else: {schema}"
        chats = (
            [{"role": "system", "content": system}, {"role": "user", "content": request.text}],
            # Some templates know no system role.
            [{"role": "user", "content": f"{system}\n\n{request.text}"}],
        )
        problem: Exception | None = None
        for chat in chats:
            try:
                made: Any = self._tokenizer.apply_chat_template(
                    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
                )
                return made["input_ids"]
            except Exception as error:  # jinja2's, from inside the model's template
                problem = error
        raise ClientError(f"the chat template of model {self._name!r} fails: {problem}") from None


def _fingerprint(folder: Path) -> str:
    """A hash over a model's files: whole small ones, the ends of large ones, and all sizes."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        whole.update(f"{path.name}:{size}:".encode())
        with open(path, "rb") as file:
            whole.update(file.read(_END_BYTES))
            if size > _END_BYTES:
                file.seek(max(_END_BYTES, size - _END_BYTES))
                whole.update(file.read(_END_BYTES))
    return whole.hexdigest()[:32]
