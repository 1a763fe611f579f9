"""Requests as Parquet: what the parent hands to the worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prefkit.core.records import Prompt, Sampling
from prefkit.engines.base import Request
from prefkit.formats.schema import PROMPTS, from_row, to_row
from prefkit.formats.tables import write_table

REQUESTS = pa.schema(
    [
        ("key", pa.string()),
        ("prompt", pa.struct(PROMPTS)),
        ("n", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("max_tokens", pa.int64()),
        ("seed", pa.int64()),
    ]
)


def write_requests(path: Path, requests: Mapping[str, Request]) -> None:
    """Write requests by their journal key."""
    rows = [
        {
            "key": key,
            "prompt": to_row(request.prompt),
            "n": request.n,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "max_tokens": request.sampling.max_tokens,
            "seed": request.seed,
        }
        for key, request in requests.items()
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=REQUESTS))


def read_requests(path: Path) -> dict[str, Request]:
    """What ``write_requests`` wrote, in its order."""
    return {
        row["key"]: Request(
            from_row(row["prompt"], Prompt),
            row["n"],
            Sampling(row["temperature"], row["top_p"], row["max_tokens"]),
            row["seed"],
        )
        for row in pq.read_table(path, schema=REQUESTS).to_pylist()
    }
