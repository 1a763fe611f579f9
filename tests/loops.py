"""Small loop workspaces and what two runs of them must have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefkit.core.files import file_digest
from prefkit.core.records import Comparison, Completion, Preference, Vote
from prefkit.formats.tables import read_records
from prefkit.rounds.project import Project, init_workspace
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

KILL_AT = Path(__file__).parent / "e2e" / "kill_at.py"
PROMPTS = [
    {
        "prompt": f"Say something about {thing}. Use at most {n} words.",
        "tags": {"format": f"max_words:{n}"},
    }
    for thing in ("rain", "tea", "trains", "bees", "salt", "clocks", "maps", "owls", "ink")
    for n in (8, 12)
]


def make_workspace(folder: Path, model: Path, *, label: str = "machine") -> Workspace:
    """Two rounds of six prompts on a tiny model, sampled by the scripted engine."""
    project = Project.model_validate(
        {
            "model": str(model),
            "heldout_prompts": 4,
            "loop": {"rounds": 2, "prompts_per_round": 6, "label": label},
            "engine": {"backend": "scripted"},
            "generate": {"n": 4, "max_tokens": 24, "pairs_per_prompt": 3},
            "judge": {"rater": "format", "noise": 0.1},
            "train": {"epochs": 2, "batch_size": 2, "checkpoint_every": 2, "dtype": "float32"},
            "evaluate": {"max_tokens": 24},
        }
    )
    return init_workspace(folder, project, PROMPTS)


def prefkit(
    *arguments: str, cwd: Path, kill_at: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a real process, killed at ``kill_at`` where given."""
    head = [str(KILL_AT), kill_at] if kill_at else ["-m", "prefkit"]
    return subprocess.run(
        [sys.executable, *head, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_json(*arguments: str, cwd: Path) -> dict[str, Any]:
    """The JSON object that a successful command prints last."""
    done = prefkit(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def essence(workspace: Workspace, rounds: int = 2) -> dict[str, Any]:
    """All that a loop has made, without times: equal for equal runs."""
    made: dict[str, Any] = {}
    for number in range(1, rounds + 1):
        folder = workspace.round_path(number)
        made[f"candidates {number}"] = [
            c.id for c in read_records(folder / "candidates.parquet", Completion)
        ]
        made[f"comparisons {number}"] = [
            c.id for c in read_records(folder / "comparisons.parquet", Comparison)
        ]
        votes = read_records(folder / "votes.parquet", Vote)
        made[f"votes {number}"] = sorted(
            (v.id, v.comparison_id, v.choice, v.strength) for v in votes
        )
        made[f"preferences {number}"] = [
            (p.comparison_id, p.p_a)
            for p in read_records(folder / "preferences.parquet", Preference)
        ]
        made[f"weights {number}"] = file_digest(
            folder / "train" / "adapter" / "adapter_model.safetensors"
        )
        made[f"answers {number}"] = [
            c.text for c in read_records(folder / "answers.parquet", Completion)
        ]
    store = VoteStore.open(workspace.store_path)
    made["store"] = sorted(vote.id for vote in store.votes())
    store.close()
    return made


def manifests(workspace: Workspace) -> dict[str, int]:
    """Every finished stage with the time its manifest was written."""
    return {
        str(p.relative_to(workspace.path)): p.stat().st_mtime_ns
        for p in workspace.path.rglob("*.manifest.json")
        if "journal" not in str(p)
    }
