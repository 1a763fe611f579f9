"""A model on the Hugging Face Hub: its size shown, its commit pinned, safetensors only."""

from __future__ import annotations

import re
from pathlib import Path

from prefkit.core.errors import ModelError, require
from prefkit.core.progress import Progress, silent

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What a model is made of here; pickled weights (*.bin, *.pt) are never fetched.
PATTERNS = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.tiktoken", "*.txt"]


def fetch(
    repo: str, *, revision: str | None = None, progress: Progress = silent
) -> tuple[Path, str]:
    """The snapshot folder of ``repo`` and the commit it is; ModelError with the mend otherwise.

    Uses the Hub's own cache; what is there already is not fetched again.
    """
    hub = require("huggingface_hub", "train")
    errors = require("huggingface_hub.errors", "train")
    try:
        _announce(repo, revision, progress)
        folder = Path(
            hub.snapshot_download(
                repo, revision=revision, allow_patterns=PATTERNS, ignore_patterns=["*/*"]
            )
        )
    except errors.HFValidationError as error:
        raise ModelError(
            f"{repo}: not the name of a model on the Hub: {error}",
            hint="a Hub id is org/name, letters, digits, - _ and .",
        ) from None
    except errors.GatedRepoError:
        raise ModelError(
            f"{repo}: this model is gated",
            hint=f"accept its licence at https://huggingface.co/{repo}, then set HF_TOKEN or run "
            "`hf auth login`",
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            f"{repo}: no revision {revision!r}",
            hint=f"see https://huggingface.co/{repo}/commits/main",
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{repo}: no such model on the Hub, or it is private",
            hint="check the name; for a private model set HF_TOKEN or run `hf auth login`",
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise _offline(repo, revision) from None
    except errors.HfHubHTTPError as error:
        raise ModelError(
            f"{repo}: the Hub answered {error}", hint="try again later, or --model DIR"
        ) from None
    return folder, folder.name


def _announce(repo: str, revision: str | None, progress: Progress) -> None:
    """Show how much will be downloaded before it starts; nothing where the Hub is out of reach."""
    hub = require("huggingface_hub", "train")
    if require("huggingface_hub.constants", "train").is_offline_mode():
        return
    try:
        plan = hub.snapshot_download(
            repo,
            revision=revision,
            allow_patterns=PATTERNS,
            ignore_patterns=["*/*"],
            dry_run=True,
        )
    except require("huggingface_hub.errors", "train").DryRunError:
        return
    missing = sum(file.file_size for file in plan if file.will_download)
    if missing:
        progress(f"downloading {repo} ({missing / 1e9:.2f} GB)", 0)


def _offline(repo: str, revision: str | None) -> ModelError:
    constants = require("huggingface_hub.constants", "train")
    cache = constants.HF_HUB_CACHE
    wanted = f"{repo}@{revision}" if revision else repo
    why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "the Hub does not answer"
    return ModelError(
        f"{wanted}: {why}, and the cache {cache} does not hold it",
        hint="go online once, or pass a folder with the model: --model DIR",
    )
