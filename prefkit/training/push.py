"""An adapter or model to the Hugging Face Hub, in one commit, and no path of this machine in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefkit.core.errors import EnvironmentFault, ModelError, require
from prefkit.core.files import read_json
from prefkit.core.progress import Progress, silent
from prefkit.policy.adapter_base import FACTS
from prefkit.policy.hub import HUB_ID
from prefkit.policy.load import ADAPTER_CONFIG

TEXTS = ("README.md", ADAPTER_CONFIG, FACTS)


def push_to_hub(
    folder: Path, repo: str, *, private: bool = True, progress: Progress = silent
) -> str:
    """Upload ``folder`` (an adapter or a model) to ``repo``; the commit's address.

    The repository is made if it is not there. Paths of this machine in the card and the
    configuration are replaced by the base model's public name or the last part of the path. Needs
    HF_TOKEN or ``hf auth login``; EnvironmentFault says which of the two is missing or refused.
    """
    files = _files(folder)
    if HUB_ID.fullmatch(repo) is None:
        raise ModelError(f"{repo}: not the name of a repository", hint="a Hub id is org/name")
    hub = require("huggingface_hub", "train")
    texts = public_texts(folder)
    additions = [
        hub.CommitOperationAdd(
            path.relative_to(folder).as_posix(),
            texts[path.name].encode() if path.parent == folder and path.name in texts else path,
        )
        for path in files
    ]
    api = hub.HfApi()
    progress(f"uploading to {repo}", 0, len(files))
    errors = require("huggingface_hub.errors", "train")
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.create_commit(repo, additions, commit_message="Upload with prefkit")
    except errors.HfHubHTTPError as error:
        raise _refused(repo, error) from None
    except (errors.OfflineModeIsEnabled, require("httpx", "train").HTTPError) as error:
        raise EnvironmentFault(
            f"{repo}: the Hub cannot be reached: {error}",
            hint="unset HF_HUB_OFFLINE and check the network; the folder is complete and can be "
            "pushed later",
        ) from None
    progress(f"uploading to {repo}", len(files), len(files))
    return str(done.commit_url)


def public_texts(folder: Path) -> dict[str, str]:
    """Card, adapter configuration and facts by file name, without paths of this machine."""
    found = {name: folder / name for name in TEXTS if (folder / name).is_file()}
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    parsed = [json.loads(texts[name]) for name in (ADAPTER_CONFIG, FACTS) if name in texts]
    facts: dict[str, Any] = parsed[-1] if FACTS in texts else {}
    public = facts.get("base", {}).get("hub")
    for path in sorted({p for value in parsed for p in _paths(value)}, key=len, reverse=True):
        is_base = any(value.get("base_model_name_or_path") == path for value in parsed)
        name = public if is_base and public else Path(path).name
        texts = {key: text.replace(path, name) for key, text in texts.items()}
    return texts


def _paths(value: Any) -> Iterator[str]:
    """Paths of this machine among the texts of a JSON value, the names in its objects too: whole
    texts, and what follows the kind in a rater's name (reward:/home/ann/adapter)."""
    if isinstance(value, str):
        for text in (value, value.partition(":")[2]):
            local = text.startswith(("/", "~/")) and not text.startswith("//")
            if local and len(Path(text).parts) > 1:
                yield text
    elif isinstance(value, dict):
        for name, below in value.items():
            yield from _paths(name)
            yield from _paths(below)
    elif isinstance(value, list):
        for below in value:
            yield from _paths(below)


def _files(folder: Path) -> list[Path]:
    """The files to upload; ModelError for a folder that is neither adapter nor model."""
    weights = list(folder.glob("*.safetensors")) if folder.is_dir() else []
    known = (folder / ADAPTER_CONFIG).is_file() or (folder / "config.json").is_file()
    if not weights or not known:
        raise ModelError(
            f"{folder}: neither an adapter nor a model (safetensors with a configuration)",
            hint="give OUT/adapter, OUT/model or what `prefkit merge` wrote",
        )
    if (folder / FACTS).is_file():
        read_json(folder / FACTS)
    return sorted(p for p in folder.rglob("*") if p.is_file() and not _is_hidden(p, folder))


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether it is, or lies in, what starts with a dot: .git, .cache, .ipynb_checkpoints."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _refused(repo: str, error: Any) -> EnvironmentFault:
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return EnvironmentFault(
            f"{repo}: the Hub refused the upload ({status})",
            hint="set HF_TOKEN to a token with write access to "
            f"{repo.partition('/')[0]}, or run `hf auth login` "
            "(tokens: https://huggingface.co/settings/tokens)",
        )
    return EnvironmentFault(
        f"{repo}: the Hub answered {error}",
        hint="try again later; the folder is complete and can be pushed then",
    )
