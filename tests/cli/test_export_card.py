"""``prefkit export`` of a workspace: every target, its card, and no name or word in either."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest

from prefkit.annotation.adjudication import Adjudication, Ruling
from prefkit.core.records import Vote
from prefkit.formats.comparisons import load_comparisons
from prefkit.formats.export import EXPORTS
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

SECRET = "Kim Example"
WORDS = "because the left one was rude"


@pytest.fixture
def labelled(tmp_path):
    """A workspace with two people and a machine, four pairs of two prompts."""
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "prefkit.yaml").write_text("annotate:\n  guidelines: |\n    # Be fair\n")
    rows = [
        {"prompt": f"q{n // 2}", "a": f"longer answer {n}", "b": f"short {n}"} for n in range(4)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparisons = load_comparisons(tmp_path / "pairs.jsonl")
    with VoteStore.open(Workspace.open(folder).store_path) as store:
        store.add(comparisons, k=3)
        people = [store.rater_id(SECRET), store.rater_id("Rae Example")]
        for n, comparison in enumerate(comparisons):
            for rater in (*people, "rule:length"):
                store.add_votes([_vote(comparison, rater, n)])
    return folder, people


def _vote(comparison, rater, n):
    is_person = rater != "rule:length"
    longer = "a" if len(comparison.a.text) > len(comparison.b.text) else "b"
    return Vote(
        id=f"{rater}-{comparison.id}",
        task_id=comparison.id,
        comparison_id=comparison.id,
        rater=rater,
        rater_kind="human" if is_person else "rule",
        choice=longer,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        shown_first="a" if is_person else None,
        strength=2,
        active_ms=3000 + n if is_person and n < 3 else None,
        rationale=WORDS if is_person else None,
    )


def last_json(out):
    return json.loads(out.rstrip("\n").split("\n")[-1])


@pytest.mark.parametrize("to", [*EXPORTS.names(), "parquet"])
def test_every_target_of_a_workspace_has_a_card_without_names_or_words(run, labelled, tmp_path, to):
    folder, people = labelled
    path = tmp_path / f"out.{'parquet' if to == 'parquet' else 'jsonl'}"
    code, out, err = run("export", folder, "--to", to, "--out", path, "--json")
    assert code == 0, err
    value = last_json(out)
    assert value["n_rows"] > 0
    card = tmp_path / "out.card.md"
    assert value["card"] == str(card)
    for written in (card, path):
        data = written.read_bytes()
        assert SECRET.encode() not in data
        assert WORDS.encode() not in data
    text = card.read_text()
    assert all(f"`{person}`" in text for person in people)
    assert "2 people and 1 machine" in text


def test_the_card_says_agreement_bias_and_time_of_people_alone(run, labelled, tmp_path):
    folder, _ = labelled
    run("export", folder, "--out", tmp_path / "out.jsonl")
    text = (tmp_path / "out.card.md").read_text()
    longer = text.split("| the longer answer is chosen |")[1].split("\n")[0]
    assert longer.startswith(" 1.000 | ")
    assert "| 8 |" in longer  # the machine's four votes are not among them
    assert "the answer on the left is chosen" in text
    assert "(2 votes without a time)" in text
    assert "8 votes on 4 comparisons with two votes or more, graded from −3 to 3" in text
    assert "- Gwet's AC1: 1.000" in text
    assert "undefined: no two raters have 10 comparisons in common" in text


def test_a_reviewers_decision_is_in_the_votes_and_not_in_the_agreement(run, labelled, tmp_path):
    folder, _ = labelled
    with VoteStore.open(Workspace.open(folder).store_path) as store:
        reviewer = store.rater_id("Rev Example")
        comparison = store.comparisons()[0]
        adjudication = Adjudication(store)
        case = adjudication.open(reviewer, comparison.id)
        ruling = Ruling(str(uuid.uuid4()), case.token, "4")
        adjudication.decide(reviewer, comparison.id, ruling, "v1")
    run("export", folder, "--to", "jsonl", "--out", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted(len(json.loads(row["votes"])) for row in rows) == [3, 3, 3, 4]
    text = (tmp_path / "out.card.md").read_text()
    assert f"`{reviewer}`" in text
    assert "8 votes on 4 comparisons with two votes or more" in text


def test_rationales_are_written_only_when_asked_for(run, labelled, tmp_path):
    folder, _ = labelled
    words = ("export", folder, "--rationales", "--out")
    code, _, err = run(*words, tmp_path / "x.jsonl", "--to", "trl")
    assert code == 1
    assert "--to trl has no column for votes" in err
    for to, name in (("jsonl", "x.jsonl"), ("parquet", "x.parquet")):
        assert run(*words, tmp_path / name, "--to", to)[0] == 0
        assert "In this file what raters wrote" in (tmp_path / "x.card.md").read_text()
    row = json.loads((tmp_path / "x.jsonl").read_text().split("\n")[0])
    votes = json.loads(row["votes"])
    assert [vote.get("rationale") for vote in votes].count(WORDS) == 2


def test_a_file_has_no_rationales_and_no_card(run, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
    code, _, err = run("export", path, "--to", "jsonl", "--rationales")
    assert code == 1
    assert "only a workspace has them" in err
    code, out, _ = run("export", path, "--out", tmp_path / "o.jsonl", "--json")
    assert last_json(out)["card"] is None
    assert not (tmp_path / "o.card.md").exists()
