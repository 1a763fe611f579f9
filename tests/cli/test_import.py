"""``prefkit import``: into a workspace, again, with bad rows, from a Hub id."""

from __future__ import annotations

import json

import datasets
import pytest

from prefkit.core.records import Comparison
from prefkit.formats.comparisons import load_comparisons
from prefkit.formats.tables import write_records
from prefkit.store import VoteStore
from prefkit.workspace import Workspace


def last_json(out):
    return json.loads(out.rstrip("\n").split("\n")[-1])


def annotation(number, user, side, at="2026-03-09T22:16:08Z"):
    result = {"from_name": "pw", "type": "pairwise", "value": {"selected": side}}
    return {"id": number, "completed_by": user, "result": [result], "updated_at": at}


def export(path, *annotations):
    data = {"prompt": "q", "answer1": "one", "answer2": "two"}
    path.write_text(json.dumps([{"id": 1, "data": data, "annotations": list(annotations)}]))
    return path


@pytest.fixture
def label_studio(tmp_path):
    return export(tmp_path / "ls.json", annotation(1, 3, "left"), annotation(2, 4, "right"))


def opened(folder):
    return VoteStore.open(Workspace.open(folder).store_path)


def test_votes_come_into_a_new_workspace_under_new_persons(run, label_studio, tmp_path):
    code, out, err = run("import", label_studio, "--json")
    assert code == 0, err
    value = last_json(out)
    assert (value["kind"], value["n_added"], value["n_votes_added"]) == ("label-studio", 1, 2)
    with opened(tmp_path / "ls.prefkit") as store:
        names = store.rater_names()
        votes = store.votes()
        assert store.verify() == []
        (comparison,) = store.comparisons()
    assert sorted(names.values()) == ["user 3 (label-studio)", "user 4 (label-studio)"]
    said = {names[v.rater]: getattr(comparison, v.choice).text for v in votes}
    assert said == {"user 3 (label-studio)": "one", "user 4 (label-studio)": "two"}
    # k is 1: what is beyond it is kept, as late, and counts in the aggregation.
    assert value["n_late"] == 1
    counted = last_json(run("aggregate", tmp_path / "ls.prefkit", "--json")[1])
    assert counted["n_counted"] == 2


def test_a_second_import_adds_nothing_and_a_changed_answer_replaces_the_old_one(
    run, label_studio, tmp_path
):
    run("import", label_studio)
    value = last_json(run("import", label_studio, "--json")[1])
    assert (value["n_added"], value["n_votes_added"]) == (0, 0)
    export(
        label_studio,
        annotation(1, 3, "right", at="2026-04-01T00:00:00Z"),
        annotation(2, 4, "right"),
    )
    value = last_json(run("import", label_studio, "--json")[1])
    assert value["n_votes_added"] == 1
    with opened(tmp_path / "ls.prefkit") as store:
        votes = store.votes()
        assert store.counts().standing == 2
    assert len(votes) == 3
    assert votes[-1].replaces == votes[0].id or votes[-1].replaces == votes[1].id


def test_a_bad_row_is_named_and_nothing_is_written(run, tmp_path):
    path = export(tmp_path / "bad.json", annotation(1, 3, "up"), annotation(2, 3, "left"))
    code, out, err = run("import", path)
    assert (code, out) == (1, "")
    assert f"{path}: row 1 (task 1), annotation 1: selected is 'up'" in err
    assert "--skip-bad" in err
    assert list(tmp_path.iterdir()) == [path]
    value = last_json(run("import", path, "--skip-bad", "--json")[1])
    assert value["n_votes_added"] == 1
    assert value["left_out"][0]["reason"].startswith("selected is 'up'")


def test_votes_come_into_a_workspace_that_is_there(run, label_studio, tmp_path):
    pairs = tmp_path / "mine.jsonl"
    pairs.write_text(json.dumps({"prompt": "q", "a": "one", "b": "two"}))
    run("annotate", pairs, "--import-only")
    words = ("import", label_studio, "--into", tmp_path / "mine.prefkit", "--source", "old team")
    value = last_json(run(*words, "--json")[1])
    assert (value["n_added"], value["n_votes_added"], value["source"]) == (0, 2, "old team")
    code, _, err = run("import", label_studio, "--into", pairs)
    assert code == 1
    assert "is a file, not a workspace" in err


def test_prefkits_own_comparisons_and_votes_are_taken_over(run, tmp_path):
    pairs = tmp_path / "p.jsonl"
    pairs.write_text("".join(
        json.dumps({"prompt": f"q{n}", "a": "x", "b": "y"}) + "\n" for n in range(2)
    ))  # fmt: skip
    comparisons = load_comparisons(pairs)
    write_records(tmp_path / "c.parquet", comparisons, Comparison)
    votes = [
        {"comparison_id": c.id, "choice": "a", "rater": "kim", "id": c.id} for c in comparisons
    ]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    words = ("import", tmp_path / "c.parquet", "--votes", tmp_path / "v.jsonl", "--json")
    assert last_json(run(*words)[1])["n_votes_added"] == 2
    assert last_json(run(*words)[1])["n_votes_added"] == 0
    with opened(tmp_path / "c.prefkit") as store:
        assert list(store.rater_names().values()) == ["kim (v.jsonl)"]
    write_records(tmp_path / "c.parquet", comparisons[:1], Comparison)
    code, _, err = run("import", tmp_path / "c.parquet", "--votes", tmp_path / "v.jsonl")
    assert code == 1
    assert "1 of 2 votes are on comparisons that" in err


def own_votes(tmp_path, *votes):
    """A file of one comparison and one of votes on it, and the words that import both."""
    pairs = tmp_path / "p.jsonl"
    pairs.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y"}))
    (comparison,) = load_comparisons(pairs)
    write_records(tmp_path / "c.parquet", [comparison], Comparison)
    rows = [{"comparison_id": comparison.id, **vote} for vote in votes]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "import", tmp_path / "c.parquet", "--votes", tmp_path / "v.jsonl"


def test_a_hidden_repeat_does_not_replace_what_its_rater_said_first(run, tmp_path):
    words = own_votes(
        tmp_path,
        {"choice": "a", "rater": "kim", "id": "1"},
        {"choice": "b", "rater": "kim", "id": "2", "task_id": "a-hidden-repeat"},
        {"choice": "b", "rater": "rev", "id": "3", "task_id": "a-reviewers-case"},
    )
    value = last_json(run(*words, "--json")[1])
    assert (value["n_votes_added"], value["n_judgements_left_out"]) == (2, 1)
    assert value["left_out"][0]["reason"] == "its rater voted on the pair before"
    with opened(tmp_path / "c.prefkit") as store:
        said = [(vote.choice, vote.replaces) for vote in store.votes()]
    assert said == [("a", None), ("b", None)]


def test_votes_of_nobody_are_not_taken_for_those_of_one_rater(run, tmp_path):
    words = own_votes(tmp_path, {"choice": "a"}, {"choice": "a"}, {"choice": "b"})
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert "3 votes on comparison" in err
    assert "add a column rater" in err
    assert not (tmp_path / "c.prefkit").exists()


def test_potatos_folder_is_imported(run, tmp_path):
    user = tmp_path / "out" / "kim"
    user.mkdir(parents=True)
    row = {"id": "1", "label_annotations": {"p": {"A": "true"}}}
    (user / "annotated_instances.jsonl").write_text(json.dumps(row) + "\n")
    items = tmp_path / "data.jsonl"
    items.write_text(json.dumps({"id": "1", "text": ["x", "y"], "question": "q"}))
    value = last_json(run("import", tmp_path / "out", "--items", items, "--json")[1])
    assert (value["kind"], value["n_votes_added"]) == ("potato", 1)
    with opened(tmp_path / "out.prefkit") as store:
        assert list(store.rater_names().values()) == ["kim (potato)"]


def test_a_saved_data_set_is_annotated_and_imported_without_votes(run, tmp_path):
    rows = [{"prompt": "q", "response_a": "x", "response_b": "y"}]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved.v2")
    value = last_json(run("annotate", tmp_path / "saved.v2", "--import-only", "--json")[1])
    assert (value["comparisons"], value["workspace"]) == (1, str(tmp_path / "saved.v2.prefkit"))
    value = last_json(run("import", tmp_path / "saved.v2", "--json")[1])
    assert (value["kind"], value["n_added"], value["n_votes"]) == ("pairs", 0, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{ls}", "--from", "prodigy"), "unknown import format 'prodigy'"),
        (("{ls}", "--choice", "x"), "expected THEIRS=OURS"),
        (("{ls}", "--votes", "{ls}", "--from", "label-studio"), "holds its own"),
        (("nowhere.json",), "no such file"),
        (("{ls}", "--items", "{ls}"), "only Potato keeps its texts apart"),
        (("{ls}", "--from", "pairs", "--question", "pw"), "these rows are pairs without votes"),
        (("{ls}", "--map", "prompt=nothing"), "no column 'nothing'"),
        (("{ls}", "--from", "argilla"), "no question"),
        (("{ls}", "--from", "potato"), "no question"),
    ],
)
def test_faults_are_one_message_without_a_traceback(run, label_studio, words, message):
    code, out, err = run("import", *(word.format(ls=label_studio) for word in words))
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_late_is_said_on_the_screen(run, label_studio):
    _, out, _ = run("import", label_studio)
    assert "beyond k, kept as late" in out
    assert "next: prefkit aggregate" in out


def test_a_hub_id_is_a_source_of_annotate_and_import(run, tmp_path, monkeypatch):
    # The Hub itself is out of reach of the tests; what is checked is our call of the real API.
    asked = []

    def load_dataset(name, split, revision):
        asked.append((name, split, revision))
        return datasets.Dataset.from_list([{"prompt": "q", "a": "x", "b": "y"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    words = ("kim/pairs", "--split", "test", "--revision", "v2", "--json")
    value = last_json(run("annotate", *words, "--import-only")[1])
    assert value["workspace"] == str(tmp_path / "pairs.prefkit")
    value = last_json(run("import", *words)[1])
    assert (value["kind"], value["n_added"]) == ("pairs", 0)
    assert asked == [("kim/pairs", "test", "v2")] * 2
    with opened(tmp_path / "pairs.prefkit") as store:
        assert [c.origin for c in store.comparisons()] == ["kim/pairs"]


def test_names_that_no_database_takes_come_in_all_the_same(run, tmp_path):
    path = export(tmp_path / "odd.json", annotation(1, "k\0\ud800", "left"))
    value = last_json(run("import", path, "--json")[1])
    assert value["n_votes_added"] == 1
    assert last_json(run("import", path, "--json")[1])["n_votes_added"] == 0
