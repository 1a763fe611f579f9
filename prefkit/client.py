"""A client of the REST API (docs/rest.md), on the standard library alone.

client = Client("https://label.example.org", token)
client.add([{"prompt": "2+2?", "a": "4", "b": "5"}])
for vote in client.votes(): ...
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from prefkit.core.errors import DataError, PrefkitError

BATCH_ROWS = 1000
BATCH_BYTES = 4 * 1024 * 1024  # half of what the app takes


class ApiError(PrefkitError):
    """The app refused, or did not answer. status: of the answer, None where there was none."""

    def __init__(self, message: str, status: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """The REST API of one app. token: from ``prefkit users token``."""

    def __init__(self, url: str, token: str, *, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DataError(f"{url!r}: expected an http or https address")
        self._api = f"{url.rstrip('/')}/api/v1/"
        self._token = token
        self._timeout = timeout
        self._opener = build_opener(_NoRedirects)

    def add(self, rows: Iterable[Mapping[str, Any]], *, origin: str = "api") -> dict[str, Any]:
        """Add pairs, in batches; n_read, n_added and left_out (reason → number) over all of them.

        A row has a prompt and two answers under the names that ``prefkit annotate`` reads. Rows
        that are there already are left alone, so sending them again does no harm.
        """
        total: dict[str, Any] = {"n_read": 0, "n_added": 0, "left_out": {}}
        for batch in _batches(rows):
            said = self._call("POST", "comparisons", {"rows": batch, "origin": origin})
            total["n_read"] += said["n_read"]
            total["n_added"] += said["n_added"]
            for reason, n in said["left_out"].items():
                total["left_out"][reason] = total["left_out"].get(reason, 0) + n
        return total

    def project(self) -> dict[str, Any]:
        """How many comparisons, votes and raters there are, and what is still open."""
        return self._call("GET", "project")

    def comparisons(self) -> Iterator[dict[str, Any]]:
        """Every comparison, in the order they were added."""
        return self._pages("comparisons")

    def votes(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """Every vote written after row ``after`` (its ``seq``), oldest first."""
        return self._pages("votes", after)

    def preferences(self, method: str | None = None) -> list[dict[str, Any]]:
        """What is believed of each comparison, aggregated now; by default as prefkit.yaml says."""
        query = "" if method is None else f"?{urlencode({'method': method})}"
        return self._call("GET", f"preferences{query}")["rows"]

    def add_hook(self, url: str, kinds: Iterable[str]) -> dict[str, Any]:
        """A new webhook, with the secret that its deliveries are signed with."""
        return self._call("POST", "hooks", {"url": url, "kinds": list(kinds)})

    def end_hook(self, hook_id: str) -> None:
        """Send nothing more to a webhook."""
        self._call("DELETE", f"hooks/{quote(hook_id, safe='')}")

    def _pages(self, name: str, after: int | None = 0) -> Iterator[dict[str, Any]]:
        while after is not None:
            page = self._call("GET", f"{name}?{urlencode({'after': after, 'limit': 1000})}")
            yield from page["rows"]
            after = page["next"]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body, allow_nan=False).encode("ascii")
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        request = Request(self._api + path, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout) as reply:
                return json.loads(reply.read())
        except HTTPError as error:
            with error:
                raise _refused(error.code, error.read()) from None
        except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
            raise ApiError(
                f"{self._api}: no answer: {getattr(error, 'reason', error)}",
                None,
                hint="check the address, and that the app runs",
            ) from None


class _NoRedirects(HTTPRedirectHandler):
    """A token is for one address: it does not follow to another."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        plain = dict(row)
        length = len(json.dumps(plain, allow_nan=False))
        if batch and (len(batch) == BATCH_ROWS or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(plain)
        size += length
    if batch:
        yield batch


def _refused(status: int, said: bytes) -> ApiError:
    try:
        value = json.loads(said)
        return ApiError(f"{status}: {value['error']}", status, value.get("hint"))
    except (ValueError, KeyError, TypeError):
        return ApiError(f"{status}: {said[:200].decode('utf-8', 'replace')}", status)
