"""Gemini by google-genai, Google's present package."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from foley.prompts.clients.gemini_wire import address, asked_wait_s, dialect, read_response
from foley.prompts.clients.protocol import (
    Answer,
    ClientError,
    ClientSettings,
    Request,
    Unavailable,
    api_key,
    failure,
)


class GeminiClient:
    """One request a call; retries and waiting are the caller's."""

    @staticmethod
    def identity(settings: ClientSettings) -> Mapping[str, str]:
        return {"client": "gemini", "address": address(settings.base_url)}

    def __init__(self, settings: ClientSettings) -> None:
        self._key = api_key()
        try:
            from google import genai
            from google.genai import types
        except ImportError:
            raise ClientError("the client `gemini` needs google-genai: pip install google-genai") from None
        for name in ("httpx", "httpx2", "google_genai", "google_genai.models"):
            logging.getLogger(name).setLevel(logging.WARNING)  # a line a request says nothing
        self._client = genai.Client(
            vertexai=False,  # whatever the environment says
            api_key=self._key,
            http_options=types.HttpOptions(
                base_url=address(settings.base_url), timeout=round(settings.timeout_s * 1000)
            ),
        )

    def complete(self, request: Request) -> Answer:
        import httpx2
        from google.genai import errors, types

        thinking = None
        if request.thinking_tokens is not None:
            thinking = types.ThinkingConfig(thinking_budget=request.thinking_tokens)
        try:
            response = self._client.models.generate_content(
                model=request.model,
                contents=request.text,
                config=types.GenerateContentConfig(
                    system_instruction=request.system,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    candidate_count=1,
                    max_output_tokens=request.max_output_tokens,
                    seed=request.seed,
                    response_mime_type="application/json",
                    response_schema=dialect(request.schema),
                    thinking_config=thinking,
                    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
                    # The package would read the model's own text as JSON, and fail on what a hostile one says.
                    should_return_http_response=True,
                ),
            )
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            wait = asked_wait_s(headers.get("Retry-After"), error.details)
            raise failure(error.code, str(error.message or error.status or ""), wait, self._key) from None
        except httpx2.TimeoutException:
            raise Unavailable("the service did not answer in time") from None
        except httpx2.RequestError as error:
            raise Unavailable(f"the connection failed: {type(error).__name__}") from None
        http = response.sdk_http_response
        return read_response((http.body if http is not None else None) or "", request.model, self._key)
