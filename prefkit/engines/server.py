"""Text from a running OpenAI-compatible server (vLLM's, llama.cpp's, or a vendor's)."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.client import HTTPException
from typing import Any

from prefkit.core.errors import EngineError
from prefkit.core.rng import derive_rng
from prefkit.engines.base import Request, Sample, Unanswered
from prefkit.engines.settings import EngineSettings
from prefkit.policy.rendering import template_messages

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT_SECONDS = 30.0


class ServerEngine:
    """Posts chat completions, a few at a time; retries what a busy server drops."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.url = (settings.server_url or "").rstrip("/")
        self.key = os.environ.get(settings.api_key_env)
        self.model = settings.server_model or self._first_model()

    def sample(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        """Yield as answers arrive. A request that fails for good is Unanswered with the reason."""
        with ThreadPoolExecutor(self.settings.server_concurrency) as pool:
            running = {pool.submit(self._answer, request): i for i, request in enumerate(requests)}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _answer(self, request: Request) -> list[Sample] | Unanswered:
        samples: list[Sample] = []
        for seed in request.sample_seeds():
            # One call a sample: servers differ in how they spread one seed over n.
            answer = self._call(self._body(request, seed), seed)
            if isinstance(answer, Unanswered):
                return answer
            samples.append(answer)
        return samples

    def _body(self, request: Request, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": template_messages(request.prompt.messages),
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "max_tokens": request.sampling.max_tokens,
            "seed": seed,
        }
        if request.prompt.tools:
            body["tools"] = json.loads(request.prompt.tools)
        return body

    def _call(self, body: dict[str, Any], seed: int) -> Sample | Unanswered:
        rng, reason = derive_rng("server backoff", seed), ""
        for attempt in range(self.settings.server_retries + 1):
            if attempt:
                time.sleep(backoff_seconds(attempt, rng))
            try:
                return read_choice(self._request("/chat/completions", body))
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code}"
                if error.code in (401, 403, 404):
                    raise self._refused(error) from None
                if error.code not in BUSY:
                    return Unanswered(reason)
            except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
                reason = type(error).__name__
            except (ValueError, KeyError, IndexError, TypeError):
                reason = "unreadable reply"
        return Unanswered(f"{reason} after {self.settings.server_retries + 1} tries")

    def _first_model(self) -> str:
        """The first model that the server lists; also the test that it is there at all."""
        try:
            return str(self._request("/models")["data"][0]["id"])
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
            raise EngineError(
                f"{self.url}: the server does not answer: {getattr(error, 'reason', error)}",
                hint="start it (for example `vllm serve MODEL`) or correct engine.server_url; the "
                "URL ends in /v1",
            ) from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise EngineError(
                f"{self.url}/models: not an OpenAI-compatible server",
                hint="the URL ends in /v1; set engine.server_model if the server lists no models",
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> EngineError:
        hint = (
            "check engine.server_url and engine.server_model"
            if error.code == 404
            else f"set the key in the environment variable {self.settings.api_key_env}"
        )
        return EngineError(f"{self.url}: HTTP {error.code} {error.reason}", hint=hint)

    def _request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if not self.url.startswith(("http://", "https://")):
            raise EngineError(
                f"engine.server_url is {self.url!r}: expected http:// or https://",
                hint="for example http://127.0.0.1:8000/v1",
            )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=self.settings.server_timeout_seconds) as reply:
            return json.loads(reply.read())


def read_choice(reply: Any) -> Sample:
    """The first choice of a chat completion; KeyError, IndexError or TypeError if it has none."""
    choice = reply["choices"][0]
    reason = choice.get("finish_reason")
    text = str(choice["message"]["content"] or "")
    # JSON can hold half a surrogate pair, which no file takes.
    text = text.encode("utf-8", "replace").decode()
    return Sample(text, reason if isinstance(reason, str) else None, None)


def backoff_seconds(attempt: int, rng: random.Random) -> float:
    """Twice as long each try, with jitter so that waiting requests do not come back together."""
    return min(LONGEST_WAIT_SECONDS, 0.5 * 2 ** (attempt - 1)) * rng.uniform(0.5, 1.0)
