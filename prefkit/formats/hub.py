"""Data sets of the Hugging Face Hub through ``datasets``, with errors that a user can mend."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prefkit.core.errors import DataError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form owner/name."""
    return _ID.fullmatch(name) is not None


def load_hub(name: str, *, split: str, revision: str | None) -> Any:
    """The ``datasets.Dataset``; DataError that names the cache tried, the split or the gate."""
    import datasets
    from datasets.config import HF_DATASETS_CACHE as cache
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        with _quiet_retries():
            return datasets.load_dataset(name, split=split, revision=revision)
    except DatasetNotFoundError as error:
        raise DataError(
            f"{name}: {error}",
            hint=f"check the name; for a gated set accept its terms at "
            f"https://huggingface.co/datasets/{name} and set HF_TOKEN",
        ) from None
    except ConnectionError as error:
        raise DataError(
            f"{name}: no such file here, and the Hub cannot be reached ({error}); "
            f"not in the cache either ({cache})",
            hint="give a local file, or run once with network: the cache serves later runs; "
            "HF_HOME names another cache",
        ) from None
    except (ValueError, DatasetsError) as error:
        raise DataError(f"{name}: {error}", hint=_split_hint(str(error))) from None


@contextmanager
def _quiet_retries() -> Generator[None]:
    """Keep the Hub client's retry warnings off a screen that gets our one line."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _split_hint(message: str) -> str | None:
    if "split" in message.lower():
        return "name one of them: --split NAME"
    return "HF_HUB_OFFLINE=1 is set" if os.environ.get("HF_HUB_OFFLINE") else None
