"""curate, inspect, export and aggregate as commands: one screen, one JSON line, one error line."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import datasets
import pytest

from prefkit.aggregation import AGGREGATORS, aggregator
from prefkit.core.records import Comparison, Example, Vote
from prefkit.formats.comparisons import load_comparisons
from prefkit.formats.load import load
from prefkit.formats.tables import read_records, write_records
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

ROWS = [
    {"prompt": "q1", "chosen": "good", "rejected": "bad", "p": 0.9},
    {"prompt": "q2", "chosen": "good", "rejected": "", "p": 0.8},
    {"prompt": "q3", "chosen": "good", "rejected": "bad\x1b[31m", "p": 0.3},
]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def voted(tmp_path):
    """A workspace whose store holds three comparisons: a preference, a both-bad, none."""
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "prefkit.yaml").write_text("{}\n")
    rows = [{"prompt": f"q{n}", "a": "x", "b": "y"} for n in range(3)]
    (tmp_path / "three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparisons = load_comparisons(tmp_path / "three.jsonl")
    with VoteStore.open(Workspace.open(folder).store_path) as store:
        store.add(comparisons)
        for choice, comparison in zip(("b", "both_bad"), comparisons, strict=False):
            store.add_votes([_vote(comparison, choice)])
    return folder


def _vote(comparison, choice):
    return Vote(
        id=f"v-{comparison.id}",
        task_id=comparison.id,
        comparison_id=comparison.id,
        rater="ann",
        rater_kind="human",
        choice=choice,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        strength=3 if choice == "b" else None,
    )


def last_json(out):
    return json.loads(out.rstrip("\n").split("\n")[-1])


def test_curate_writes_what_it_says(run, pairs, tmp_path):
    code, out, _ = run("curate", pairs, "--out", tmp_path / "out", "--json")
    value = last_json(out)
    assert code == 0
    assert (value["n_rows"], value["n_kept"], value["n_dropped"]) == (3, 2, 1)
    assert value["dropped"]["empty_answer"] == 1
    assert value["n_flipped"] == 1
    assert len(read_records(tmp_path / "out" / "examples.parquet", Example)) == 2


def test_curate_prints_one_screen_with_the_next_command(run, pairs, tmp_path):
    code, out, _ = run("curate", pairs, "--out", tmp_path / "out", "--set", "tie.min=0.25")
    assert code == 0
    assert "next: prefkit inspect" in out
    assert "empty_answer" in out


def test_an_export_does_not_overwrite_what_it_reads(run, pairs):
    before = pairs.read_bytes()
    code, _, err = run("export", pairs, "--to", "kto", "--out", pairs)
    assert code == 1
    assert "is the file that is read" in err
    assert pairs.read_bytes() == before


@pytest.mark.parametrize("words", ["{out}", "{out}/examples.parquet", "{out}/dropped.parquet"])
def test_a_curation_does_not_overwrite_what_it_reads(run, pairs, tmp_path, words):
    out = tmp_path / "out"
    run("curate", pairs, "--out", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, _, err = run("curate", words.format(out=out), "--out", out)
    assert code == 1
    assert "would be overwritten by its own curation" in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_no_next_command_reads_an_empty_file(run, tmp_path):
    one_sided = tmp_path / "pairs.jsonl"
    one_sided.write_text(json.dumps({"prompt": "q", "chosen": "x", "rejected": ""}))
    _, out, _ = run("curate", one_sided, "--out", tmp_path / "none-kept")
    assert "next:" not in out
    given = tmp_path / "ab.jsonl"
    given.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y"}))
    run("annotate", given, "--import-only")
    _, out, _ = run("aggregate", tmp_path / "ab.prefkit")
    assert "next: prefkit annotate" in out


def test_examples_in_help_stand_on_lines_of_their_own(run):
    for verb, n_examples in (("aggregate", 2), ("inspect", 3)):
        _, out, _ = run(verb, "--help")
        assert sum(line.startswith("  Example: ") for line in out.splitlines()) == n_examples


def test_next_commands_can_be_pasted(run, tmp_path):
    spaced = tmp_path / "my pairs.jsonl"
    spaced.write_text("\n".join(json.dumps(row) for row in ROWS))
    following = []
    for words in (
        ("inspect", spaced),
        ("export", spaced, "--out", tmp_path / "my export.jsonl"),
        ("curate", spaced, "--out", tmp_path / "my set"),
        ("init", tmp_path / "my project", "--prompts", spaced),
        ("status", tmp_path / "my project"),
    ):
        code, out, err = run(*words)
        assert code == 0, err
        following.append(out.rpartition("next: ")[2].strip())
    assert shlex.split(following[0])[:3] == ["prefkit", "curate", str(spaced)]
    # A command that lacks a required option is no next command.
    exported = str(tmp_path / "my export.jsonl")
    assert shlex.split(following[1]) == ["prefkit", "train", exported, "--out", "run1"]
    assert shlex.split(following[2]) == ["prefkit", "inspect", str(tmp_path / "my set")]
    project = str(tmp_path / "my project")
    assert shlex.split(following[3])[-4:] == ["prefkit", "loop", "run", project]
    assert shlex.split(following[4]) == ["prefkit", "loop", "run", project]


def test_inspect_shows_the_layout_and_no_control_characters(run, pairs):
    code, out, _ = run("inspect", pairs)
    assert code == 0
    assert "strings" in out
    assert "\x1b[31m" not in out
    value = last_json(run("inspect", pairs, "--json")[1])
    assert value["layout"] == "strings"
    assert sum(value["p"].values()) == 3
    assert value["characters"]["chosen"]["max"] == len(ROWS[2]["rejected"])


def test_export_is_read_by_datasets(run, pairs, tmp_path):
    out_file = tmp_path / "trl.jsonl"
    code, out, _ = run("export", pairs, "--to", "trl", "--out", out_file, "--json")
    assert code == 0
    assert last_json(out)["n_rows"] == 3
    read = datasets.load_dataset(
        "json", data_files=str(out_file), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert read["p"][:] == [0.9, 0.8, 0.7]
    assert load(out_file).column("id") == load(pairs).column("id")


def test_a_workspace_is_aggregated_exported_and_curated(run, voted, tmp_path):
    value = last_json(run("aggregate", voted, "--json")[1])
    assert (value["n_votes"], value["n_preferences"], value["n_both_bad"]) == (2, 1, 1)
    assert value["n_flipped"] == 1
    assert len(read_records(voted / "aggregated" / "examples.parquet", Example)) == 1
    kto = last_json(run("export", voted, "--to", "kto", "--out", tmp_path / "k.jsonl", "--json")[1])
    assert (kto["n_rows"], kto["n_both_bad"]) == (4, 1)
    curated = last_json(run("curate", voted, "--out", tmp_path / "cur", "--json")[1])
    assert curated["n_kept"] == 1


def test_export_without_a_source_takes_the_workspace_one_stands_in(run, voted, monkeypatch):
    monkeypatch.chdir(voted)
    assert last_json(run("export", "--to", "trl", "--json")[1])["n_rows"] == 1
    assert load(voted / "trl.jsonl").num_rows == 1


def test_a_workspace_says_how_its_votes_are_counted(run, voted, tmp_path, monkeypatch):
    monkeypatch.setattr(AGGREGATORS, "_entries", dict(AGGREGATORS._entries))

    @aggregator("surely", paper="none")
    def surely(comparisons, votes, *, params):
        found = AGGREGATORS.get("vote_share").function(comparisons, votes, params=params)
        return [replace(preference, p_a=1.0, method="surely") for preference in found]

    (voted / "prefkit.yaml").write_text("aggregate:\n  method: surely\n")
    assert last_json(run("aggregate", voted, "--json")[1])["method"] == "surely"
    assert last_json(run("aggregate", voted, "--method", "vote_share", "--json")[1])["n_flipped"]
    run("export", voted, "--out", tmp_path / "x.jsonl")
    assert load(tmp_path / "x.jsonl").column("p").to_pylist() == [1.0]


def test_a_store_that_depends_on_the_folder_one_stands_in_is_refused(run, voted):
    (voted / "prefkit.yaml").write_text("annotate:\n  store: team.db\n")
    code, _, err = run("store", "info", voted)
    assert code == 1
    assert "prefkit.yaml:2: annotate.store is 'team.db': expected null" in err


def test_files_of_comparisons_and_votes_are_aggregated(run, tmp_path):
    rows = [{"prompt": f"q{n}", "a": "x", "b": "y"} for n in range(2)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    comparisons = load_comparisons(tmp_path / "pairs.jsonl")
    write_records(tmp_path / "comparisons.parquet", comparisons, Comparison)
    votes = tmp_path / "votes.jsonl"
    votes.write_text(json.dumps({"comparison_id": comparisons[0].id, "choice": "a", "strength": 3}))
    words = (
        "aggregate",
        tmp_path / "comparisons.parquet",
        "--votes",
        votes,
        "--out",
        tmp_path / "o",
    )
    value = last_json(run(*words, "--json")[1])
    assert (value["n_counted"], value["n_without_preference"]) == (1, 1)
    kind = last_json(run("inspect", tmp_path / "comparisons.parquet", "--json")[1])
    assert (kind["kind"], kind["n_rows"]) == ("comparisons", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("curate", "{pairs}", "--recipe", "quik"), "did you mean 'quick'"),
        (("curate", "{pairs}", "--set", "tei.min=1"), "did you mean 'tie'"),
        (("curate", "{pairs}", "--map", "prompt"), "expected OURS=YOURS"),
        (("export", "{pairs}", "--to", "csv"), "unknown export target 'csv'"),
        (("export", "{pairs}", "--out", "{pairs}.csv"), "ends in .jsonl or .parquet"),
        (("aggregate", "{pairs}"), "needs its votes"),
        (("aggregate", "{folder}"), "not a prefkit workspace"),
        (("inspect", "{folder}/none.parquet"), "no such file"),
        (("inspect", "nobody/no-such-set"), "the Hub cannot be reached"),
    ],
)
def test_bad_input_is_one_error_with_exit_code_1_and_leaves_nothing(
    run, pairs, tmp_path, words, message
):
    before = sorted(tmp_path.rglob("*"))
    filled = [word.format(pairs=pairs, folder=tmp_path) for word in words]
    code, out, err = run(*filled)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("verb", ["curate", "inspect", "export", "aggregate"])
def test_help_has_an_example(run, verb):
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"Example: prefkit {verb}" in out
    assert "--json" in out


def test_help_of_the_program_loads_no_heavy_package():
    code = (
        "import sys; sys.argv = ['prefkit', '--help']\n"
        "import prefkit.cli\n"
        "try: prefkit.cli.main()\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'gradio', 'vllm', 'datasets', 'pandas', 'pyarrow')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().split("\n")[-1] == "[]"
