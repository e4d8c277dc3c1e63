"""Gemini by google-generativeai, whose support has ended: the package that was asked for, over REST.

It knows neither seeds nor a limit to thinking: the first is not sent, the second is refused in the options.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

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


class LegacyGeminiClient:
    """One request a call; the package's own retries are off. It keeps its settings for the whole process."""

    @staticmethod
    def identity(settings: ClientSettings) -> Mapping[str, str]:
        return {"client": "gemini_legacy", "address": address(settings.base_url)}

    def __init__(self, settings: ClientSettings) -> None:
        self._key = api_key()
        self._timeout_s = settings.timeout_s
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its support has ended is known (docs/prompts.md)
                import google.generativeai as legacy
        except ImportError:
            raise ClientError(
                "the client `gemini_legacy` needs google-generativeai: pip install google-generativeai, or take the "
                "client `gemini`"
            ) from None
        legacy.configure(
            api_key=self._key,
            transport="rest",
            client_options={"api_endpoint": address(settings.base_url)},
        )
        self._service = import_module("google.generativeai.client").get_default_generative_client()
        session: Any = getattr(self._service.transport, "_session", None)
        if hasattr(session, "_max_refresh_attempts"):
            session._max_refresh_attempts = 0  # it would send a request with a refused key two times more

    def complete(self, request: Request) -> Answer:
        import google.generativeai as legacy
        import requests
        from google.api_core import exceptions
        from google.protobuf import json_format

        parameters: Any = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "candidate_count": 1,
            "max_output_tokens": request.max_output_tokens,
            "response_mime_type": "application/json",
            "response_schema": dialect(request.schema),
        }
        patience: Any = {"timeout": self._timeout_s, "retry": None}
        model = legacy.GenerativeModel(
            request.model, system_instruction=request.system, generation_config=parameters
        )
        model._client = self._service
        try:
            response = model.generate_content(request.text, request_options=patience)
        except exceptions.GoogleAPICallError as error:
            headers = getattr(error.response, "headers", None) or {}
            wait = asked_wait_s(headers.get("Retry-After"), _error_body(error.response))
            raise failure(error.code or 500, error.message, wait, self._key) from None
        except requests.exceptions.Timeout:
            raise Unavailable("the service did not answer in time") from None
        except requests.exceptions.RequestException as error:
            raise Unavailable(f"the connection failed: {type(error).__name__}") from None
        except (json_format.ParseError, UnicodeDecodeError):
            raise Unavailable("the service's response broke off, or is no response of Gemini's") from None
        # Back to the JSON that the service sent, less what the package does not know.
        body = json_format.MessageToJson(type(response._result).pb(response._result), indent=None)
        return read_response(body, request.model, self._key)


def _error_body(response: Any) -> object:
    try:
        return response.json()
    except (AttributeError, ValueError):
        return None
