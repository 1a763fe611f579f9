"""A project folder: prefkit.yaml, prompts, the vote store, rounds/NNN/, and the stage rule.

    DIR/prefkit.yaml           configuration (rounds/project.py)
    DIR/prompts.jsonl          what the policy is asked
    DIR/votes.db               the vote store (SQLite unless configured)
    DIR/rounds/001/            one folder a round; each stage writes its files and a manifest
    DIR/rounds/001/NAME.manifest.json

The stage rule: the manifest of a stage is written last and names the digests of its inputs, its
configuration and its outputs. Same inputs and configuration: the stage is skipped. No manifest,
or another digest: the stage is done again. Readers never look at files without a manifest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefkit.core.errors import WorkspaceError
from prefkit.core.files import clear_leftovers, file_digest, holding, read_json, write_json
from prefkit.core.ids import content_id

CONFIG_NAME = "prefkit.yaml"
STORE_NAME = "votes.db"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage says of itself.

    key: digest of inputs and configuration. outputs: file name → BLAKE2b-128. facts: counts and
    figures the stage reports (JSON values). seconds: wall time.
    """

    stage: str
    key: str
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    outputs: Mapping[str, str]
    facts: Mapping[str, Any]
    seconds: float
    at: str
    prefkit: str


def stage_key(stage: str, inputs: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """The digest that decides whether a finished stage still stands."""
    return content_id({"stage": stage, "inputs": dict(inputs), "config": dict(config)})


def manifest_path(folder: Path, stage: str) -> Path:
    return folder / f"{stage}.manifest.json"


def read_manifest(folder: Path, stage: str) -> Manifest | None:
    """The manifest of a finished stage, or None."""
    path = manifest_path(folder, stage)
    if not path.is_file():
        return None
    try:
        return Manifest(**read_json(path))
    except TypeError as error:
        raise WorkspaceError(
            f"{path}: not a manifest of this version: {error}",
            hint="delete the file to run the stage again",
        ) from None


def run_stage(
    folder: Path,
    stage: str,
    *,
    inputs: Mapping[str, str],
    config: Mapping[str, Any],
    outputs: tuple[str, ...],
    work: Callable[[], Mapping[str, Any]],
) -> tuple[Manifest, bool]:
    """Run ``work`` unless its manifest stands; the manifest and whether it ran now.

    work writes every name of ``outputs`` (files or folders) below ``folder`` and returns its
    facts. A manifest whose outputs are gone or changed does not stand.
    """
    key = stage_key(stage, inputs, config)
    standing = read_manifest(folder, stage)
    if standing and standing.key == key and _outputs_stand(folder, standing):
        return standing, False
    manifest_path(folder, stage).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    facts = work()
    missing = [name for name in outputs if not (folder / name).exists()]
    if missing:
        raise RuntimeError(f"stage {stage} did not write {', '.join(missing)}")
    manifest = Manifest(
        stage=stage,
        key=key,
        inputs=dict(inputs),
        config=dict(config),
        outputs={name: file_digest(folder / name) for name in outputs},
        facts=dict(facts),
        seconds=round(time.monotonic() - started, 3),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        prefkit=version("prefkit"),
    )
    write_json(manifest_path(folder, stage), {name: getattr(manifest, name) for name in _FIELDS})
    return manifest, True


_FIELDS = tuple(Manifest.__dataclass_fields__)


def _outputs_stand(folder: Path, manifest: Manifest) -> bool:
    return all(
        (folder / name).exists() and file_digest(folder / name) == digest
        for name, digest in manifest.outputs.items()
    )


@dataclass(frozen=True, slots=True)
class Workspace:
    """A project folder by its path. Knows where things are, not what they mean."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Workspace:
        """The workspace at ``path``; WorkspaceError if there is none."""
        folder = Path(path).expanduser().resolve()
        if not (folder / CONFIG_NAME).is_file():
            raise WorkspaceError(
                f"{folder}: not a prefkit workspace (no {CONFIG_NAME})",
                hint=f"prefkit init {path}",
            )
        return cls(folder)

    @property
    def config_path(self) -> Path:
        return self.path / CONFIG_NAME

    @property
    def store_path(self) -> Path:
        return self.path / STORE_NAME

    @property
    def rounds_path(self) -> Path:
        return self.path / "rounds"

    def round_path(self, number: int) -> Path:
        """The folder of round ``number``, counted from 1."""
        return self.rounds_path / f"{number:03d}"

    def rounds(self) -> list[int]:
        """The numbers of the rounds that have a folder, in order."""
        if not self.rounds_path.is_dir():
            return []
        return sorted(int(p.name) for p in self.rounds_path.iterdir() if p.name.isdecimal())

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the workspace against a second writer; WorkspaceError if one is at work."""
        busy = WorkspaceError(
            f"{self.path}: another prefkit process is working here",
            hint="wait for it to end, or end it",
        )
        with holding(self.path / ".lock", busy=busy):
            clear_leftovers(self.path)
            yield
