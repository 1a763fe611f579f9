"""Where the verbs on preference data take their rows from: a workspace's votes, or any data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from prefkit.core.records import Comparison, Vote
    from prefkit.formats.load import Loaded

MAP_HELP = "Our column = yours, for example prompt=question; prompt= leaves ours out. Repeatable."


@dataclass(frozen=True, slots=True)
class Ballots:
    """Comparisons, every vote on them, the place they came from, and how the votes count.

    guidelines: version → text, of those that a vote names and that are known. hidden: votes on
    gold items and repeats, where they were asked for: no votes on the work.
    """

    comparisons: list[Comparison]
    votes: list[Vote]
    place: str
    method: str = "auto"
    guidelines: Mapping[str, str] = field(default_factory=dict[str, str])
    hidden: Sequence[Vote] = ()


def is_workspace(source: str) -> bool:
    """Whether ``source`` is a project folder."""
    from prefkit.workspace import CONFIG_NAME

    return (Path(source).expanduser() / CONFIG_NAME).is_file()


def read_map(words: Sequence[str] | None) -> dict[str, str]:
    """``--map ours=theirs`` words as a mapping; ConfigError for one without "="."""
    found: dict[str, str] = {}
    for word in words or ():
        ours, equals, theirs = word.partition("=")
        if not equals or not ours.strip():
            raise ConfigError(f"--map {word!r}: expected OURS=YOURS", hint="--map prompt=question")
        found[ours.strip()] = theirs.strip()
    return found


def workspace_ballots(source: str, *, hidden: bool = False) -> Ballots:
    """What the vote store of a workspace holds; hidden: with the votes on gold and repeats."""
    from prefkit.rounds.project import read_project
    from prefkit.store import VoteStore
    from prefkit.workspace import Workspace

    workspace = Workspace.open(source)
    project = read_project(workspace)
    address = project.annotate.store
    # The address may hold a password.
    place = address.rpartition("@")[2] if address else str(workspace.store_path)
    with VoteStore.open(
        address or workspace.store_path, create=False, home=workspace.path
    ) as store:
        votes = store.votes()
        versions = {vote.guideline_version for vote in votes if vote.guideline_version}
        # Votes of an older store may name the text that is in force still and was not kept then.
        texts = {project.annotate.guideline_version: project.annotate.guidelines}
        for version in versions:
            text = store.guidelines(version)
            if text is not None:
                texts[version] = text
        others: list[Vote] = []
        if hidden:
            known = {vote.id for vote in votes}
            others = [vote for vote in store.votes(hidden=True) if vote.id not in known]
        method = project.aggregate.method
        return Ballots(store.comparisons(), votes, place, method, texts, others)


def examples_of(
    source: str,
    *,
    layout: str | None = None,
    split: str = "train",
    revision: str | None = None,
    mapping: Mapping[str, str] | None = None,
) -> tuple[Loaded, list[Comparison]]:
    """The Examples of a workspace, a file or a Hub id, and a workspace's both-bad comparisons."""
    from prefkit.formats.load import read_examples

    if is_workspace(source):
        return examples_of_ballots(workspace_ballots(source), source)
    loaded = read_examples(source, layout=layout, split=split, revision=revision, mapping=mapping)
    return loaded, []


def examples_of_ballots(ballots: Ballots, source: str) -> tuple[Loaded, list[Comparison]]:
    """The Examples of a workspace's votes, and its both-bad comparisons.

    Raises DataError where no vote says anything yet.
    """
    from prefkit.aggregation import aggregate, build_examples, counted_votes
    from prefkit.core.records import Example
    from prefkit.formats.load import Loaded
    from prefkit.formats.schema import to_table

    preferences = aggregate(ballots.comparisons, ballots.votes, method=ballots.method)
    if not preferences:
        raise DataError(
            f"{ballots.place}: no comparison has a vote for a side or a tie yet "
            f"({len(ballots.comparisons)} comparisons, {len(ballots.votes)} votes)",
            hint=f"prefkit annotate {source}",
        )
    examples, counts = build_examples(ballots.comparisons, preferences)
    counted = counted_votes(ballots.comparisons, ballots.votes)
    bad = [c for c in ballots.comparisons if c.id in counted.both_bad]
    loaded = Loaded(
        to_table(examples, Example),
        ballots.place,
        "workspace",
        (
            f"{len(ballots.votes)} votes on {len(ballots.comparisons)} comparisons, "
            f"by {preferences[0].method}",
        ),
        (),
        len(examples),
        counts["flipped"],
        rows=range(len(examples)),
    )
    return loaded, bad
