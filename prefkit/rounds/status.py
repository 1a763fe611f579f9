"""Where a workspace stands and what to run next, read from its files alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefkit.core.records import Comparison, Vote
from prefkit.formats.tables import read_records
from prefkit.rounds.loop import stage_states
from prefkit.rounds.project import Project, read_project
from prefkit.rounds.quorum import count_answers, quorum
from prefkit.store import VoteStore
from prefkit.workspace import Workspace


def workspace_status(workspace: Workspace, *, shown_as: str) -> dict[str, Any]:
    """Rounds with their finished stages, the votes, and the next command.

    shown_as: how the user named the folder, for the command to copy.
    """
    project = read_project(workspace)
    rounds = [
        {
            "round": number,
            "stages": {stage: m is not None for stage, m in stage_states(workspace, number)},
        }
        for number in workspace.rounds()
    ]
    comparisons, votes = _read_store(workspace, project)
    n_unvoted = len(comparisons) - len(count_answers(votes))
    return {
        "workspace": str(workspace.path),
        "rounds": rounds,
        "rounds_wanted": project.loop.rounds,
        "votes": {
            "n_comparisons": len(comparisons),
            "n_votes": len(votes),
            "n_unvoted": n_unvoted,
        },
        "next": _next(workspace, project, rounds, comparisons, votes, shown_as),
    }


def _read_store(workspace: Workspace, project: Project) -> tuple[list[Comparison], list[Vote]]:
    if project.annotate.store is None and not workspace.store_path.exists():
        return [], []
    store = VoteStore.open(project.annotate.store or workspace.store_path, home=workspace.path)
    try:
        return store.comparisons(), store.votes()
    finally:
        store.close()


def _next(
    workspace: Workspace,
    project: Project,
    rounds: Sequence[dict[str, Any]],
    offered: Sequence[Comparison],
    votes: Sequence[Vote],
    shown_as: str,
) -> str:
    n_unvoted = len(offered) - len(count_answers(votes))
    export = f"prefkit export {shown_as} --to trl"
    if not rounds and (votes or n_unvoted):
        return f"prefkit annotate {shown_as}" if n_unvoted else export
    unfinished = [r for r in rounds if not r["stages"]["evaluate"]]
    if unfinished and _waits_for_people(workspace, project, unfinished[0], offered, votes):
        return f"prefkit annotate {shown_as}, then: prefkit loop run {shown_as}"
    if unfinished or len(rounds) < project.loop.rounds:
        return f"prefkit loop run {shown_as}"
    return f"prefkit annotate {shown_as}" if n_unvoted else export


def _waits_for_people(
    workspace: Workspace,
    project: Project,
    round_: dict[str, Any],
    offered: Sequence[Comparison],
    votes: Sequence[Vote],
) -> bool:
    stages = round_["stages"]
    if project.loop.label != "people" or stages["vote"] or not stages["generate"]:
        return False
    path = workspace.round_path(round_["round"]) / "comparisons.parquet"
    comparisons = read_records(path, Comparison)
    # A run killed between sampling and offering left people nothing to vote on.
    if not {comparison.id for comparison in comparisons} <= {one.id for one in offered}:
        return False
    share = project.loop.quorum
    return not quorum(comparisons, votes, k=project.annotate.k, share=share).met
