"""Gemini by google-genai, Google's present package."""

from __future__ import annotations

import logging

from foley.prompts.clients.gemini_wire import GeminiService, address, generation, late, unconnected
from foley.prompts.clients.protocol import ClientError, ClientSettings, Request


class GeminiClient(GeminiService):
    """Honours seeds and a limit to thinking."""

    name = "gemini"

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__()
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

    def send(self, request: Request) -> str:
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
                    **generation(request),
                    system_instruction=request.system,
                    seed=request.seed,
                    thinking_config=thinking,
                    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
                    # The package would read the model's own text as JSON, and fail on what a hostile one says.
                    should_return_http_response=True,
                ),
            )
        except errors.APIError as error:
            said = str(error.message or error.status or "")
            raise self.failed(error.code, said, error.response, error.details) from None
        except httpx2.TimeoutException:
            raise late() from None
        except httpx2.RequestError as error:
            raise unconnected(error, sent=not isinstance(error, httpx2.ConnectError)) from None
        http = response.sdk_http_response
        return (http.body if http is not None else None) or ""
