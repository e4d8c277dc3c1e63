"""Gemini by google-generativeai, whose support has ended: the package that was asked for, over REST.

It knows neither seeds nor a limit to thinking: the first is not sent, the second is refused in the options.
"""

from __future__ import annotations

import threading
import warnings
from importlib import import_module
from typing import Any

from foley.prompts.clients.gemini_wire import GeminiService, address, broken, generation, late, unconnected
from foley.prompts.clients.protocol import ClientError, ClientSettings, Request


class LegacyGeminiClient(GeminiService):
    """The package's own retries are off. It keeps its settings for the whole process."""

    name = "gemini_legacy"

    def __init__(self, settings: ClientSettings) -> None:
        super().__init__()
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
        session: Any = self._service.transport._session
        if hasattr(session, "_max_refresh_attempts"):
            session._max_refresh_attempts = 0  # it would send a request with a refused key two times more
        # The package reads a response by its own schema and fails on what does not fit, though it was paid for.
        self._came = threading.local()
        session.hooks["response"].append(self._keep)

    def _keep(self, response: Any, **_: Any) -> None:
        self._came.body = response.content

    def send(self, request: Request) -> str:
        import google.generativeai as legacy
        import requests
        from google.api_core import exceptions
        from google.protobuf import json_format

        parameters: Any = generation(request)
        patience: Any = {"timeout": self._timeout_s, "retry": None}
        model = legacy.GenerativeModel(
            request.model, system_instruction=request.system, generation_config=parameters
        )
        model._client = self._service
        self._came.body = b""
        try:
            model.generate_content(request.text, request_options=patience)
        except exceptions.GoogleAPICallError as error:
            body = _error_body(error.response)
            raise self.failed(error.code or 500, error.message, error.response, body) from None
        except requests.exceptions.Timeout:
            raise late() from None
        except requests.exceptions.RequestException as error:
            # urllib3's name for one that never came about; requests has but one class for all.
            raise unconnected(error, sent="NewConnectionError" not in repr(error)) from None
        except (json_format.ParseError, ValueError, RecursionError):
            if not self._came.body:
                raise broken() from None
        return str(self._came.body, "utf-8", "replace")


def _error_body(response: Any) -> object:
    try:
        return response.json()
    except (AttributeError, ValueError):
        return None
