"""A language model on the loopback interface that speaks Gemini's REST protocol, for both of its client packages.

It answers the questions of `foley.prompts.llm` as a well-behaved model would, unless a test says otherwise: `troubles`
are answers for the next requests, `answer` decides on every request. It stops with its block.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY = "AIza-a-key-that-must-appear-nowhere-0123456789"

TEXTURES = (
    "a sharp and sudden burst of", "low rumbling", "several overlapping rounds of", "faint muffled", "harsh metallic",
    "slow steady pulses of", "a high thin whine of", "crackling bright", "deep booming", "soft rhythmic",
    "wavering hollow", "rapid clattering", "a long fading swell of", "raspy broken", "dense hissing",
)  # fmt: skip
PLACES = (
    "in an empty concrete hall", "across a quiet field at dawn", "behind a closed wooden door", "under heavy rainfall",
    "close to the microphone", "far down a city street", "beside running water", "inside a small tiled room",
    "while traffic passes", "with birds in the background", "against a gusty wind", "over murmuring voices",
    "through thick fog", "below a tin roof", "between tall buildings",
)  # fmt: skip
WORDS = (
    "piercing", "booming", "crackle", "low hum", "whistling", "metallic", "rhythmic", "muffled", "gurgling",
    "squealing", "thudding", "raspy", "shrill", "wavering", "clicking",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    model: str
    system: str
    text: str
    config: dict[str, Any]
    headers: dict[str, str]
    path: str

    @property
    def is_critic(self) -> bool:
        return "verdicts" in json.dumps(self.config.get("responseSchema", {}))

    @property
    def label(self) -> str:
        found = re.search(r'sound class (?:is )?"([^"]*)"', self.text)
        assert found is not None, self.text
        return found[1]

    @property
    def count(self) -> int:
        found = re.search(r"(?:Write|List) (\d+)", self.text)
        assert found is not None, self.text
        return int(found[1])

    @property
    def judged(self) -> list[dict[str, Any]]:
        """What a critic is to judge."""
        return json.loads(self.text[self.text.index("[{") :])


@dataclass(frozen=True)
class Reply:
    """What goes back: a model's text in the service's envelope, or ``body`` as it is."""

    text: str = ""
    finish: str = "STOP"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    block_reason: str | None = None
    delay_s: float = 0.0
    tokens: tuple[int, int] = (100, 50)
    thinking: int = 0

    def as_bytes(self, model: str) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            name = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 401: "UNAUTHENTICATED"}.get(
                self.status, "INTERNAL"
            )
            return json.dumps(
                {"error": {"code": self.status, "message": self.text or "trouble", "status": name}}
            ).encode()
        usage = {
            "promptTokenCount": self.tokens[0],
            "candidatesTokenCount": self.tokens[1],
            "totalTokenCount": sum(self.tokens) + self.thinking,
        }
        if self.thinking:
            usage["thoughtsTokenCount"] = self.thinking
        whole: dict[str, Any] = {"usageMetadata": usage, "modelVersion": f"{model}-001", "responseId": "r"}
        if self.block_reason is not None:
            whole["promptFeedback"] = {"blockReason": self.block_reason}
        else:
            content = {"parts": [{"text": self.text}], "role": "model"} if self.text else {"role": "model"}
            whole["candidates"] = [{"content": content, "finishReason": self.finish, "index": 0}]
        return json.dumps(whole, ensure_ascii=False).encode()


def captions(label: str, count: int, first: int = 0) -> list[str]:
    """Captions that differ enough from one another to pass all rules."""
    return [
        f"{TEXTURES[number % len(TEXTURES)]} {label} {PLACES[number % len(PLACES)]}"
        for number in range(first, first + count)
    ]


def good_answer(asked: Asked) -> Reply:
    """What a well-behaved model says."""
    if asked.is_critic:
        verdicts = [
            {"number": one["number"], "describes_sound": True, "right_sense": True, "reason": "can be heard"}
            for one in asked.judged
        ]
        return Reply(json.dumps({"verdicts": verdicts}))
    if "words" in asked.config["responseSchema"]["properties"]:
        return Reply(json.dumps({"words": list(WORDS[: asked.count])}))
    # A second round must differ from what it is told is there.
    first = sum(texture in asked.text for texture in TEXTURES)
    return Reply(json.dumps({"captions": captions(asked.label, asked.count, first)}))


class GeminiStub:
    """The server; `url` goes into the option `base_url`."""

    def __init__(self, answer: Callable[[Asked], Reply] = good_answer) -> None:
        self.answer = answer
        self.troubles: list[Reply] = []
        self.requests: list[Asked] = []
        self.at: list[float] = []
        self._lock = threading.Lock()

    def reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.requests.append(asked)
            self.at.append(time.monotonic())
            if self.troubles:
                return self.troubles.pop(0)
        return self.answer(asked)

    def __enter__(self) -> GeminiStub:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path, _, _ = self.path.partition("?")
                model = path.rpartition("/")[2].removesuffix(":generateContent")
                parts = asked.get("systemInstruction", {}).get("parts", [])
                reply = stub.reply(
                    Asked(
                        model,
                        "".join(part["text"] for part in parts),
                        "".join(part["text"] for part in asked["contents"][0]["parts"]),
                        asked["generationConfig"],
                        dict(self.headers),
                        self.path,
                    )
                )
                time.sleep(reply.delay_s)
                body = reply.as_bytes(model)
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json; charset=UTF-8")
                    self.send_header("Content-Length", str(len(body)))
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # whoever asked has given up

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
