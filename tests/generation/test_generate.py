"""prefkit.generate and its command, with the scripted engine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import prefkit
from prefkit.core.errors import ConfigError, DataError, ModelError
from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.formats.tables import read_records
from prefkit.generation import GenerateSettings

SETTINGS = GenerateSettings.model_validate({"n": 3, "engine": {"backend": "scripted"}})
QUESTIONS = [f"What is number {i}?" for i in range(8)]


def test_all_candidates_are_kept_and_counts_add_up():
    made = prefkit.generate(QUESTIONS, settings=SETTINGS)
    assert made.backend == "scripted"
    assert len(made.completions) == made.counts["candidates"] == 24
    assert len(made.comparisons) == made.counts["comparisons"] <= 8
    assert made.counts["comparisons"] + made.counts["unpaired_prompts"] == 8
    assert {c.prompt.messages[-1].text for c in made.comparisons} <= set(QUESTIONS)


def test_records_text_and_a_file_give_the_same(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": q}) + "\n" for q in QUESTIONS))
    records = [Prompt.make([Message.of("user", q)]) for q in QUESTIONS]
    made = [prefkit.generate(given, settings=SETTINGS) for given in (QUESTIONS, records, path)]
    ids = [[c.id for c in m.completions] for m in made]
    assert ids[0] == ids[1] == ids[2]
    pairs = [[c.id for c in m.comparisons] for m in made]
    assert pairs[0] == pairs[1] == pairs[2]


@pytest.mark.parametrize("from_file", [False, True])
def test_repeated_prompts_are_answered_once_and_counted(tmp_path, from_file):
    prompts = [QUESTIONS[0], *QUESTIONS[:2]]
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(prompts))
    made = prefkit.generate(path if from_file else prompts, settings=SETTINGS)
    assert made.counts["prompts"] == 2
    assert made.counts["repeated_prompts"] == 1
    assert len(made.completions) == 6


def test_greedy_answers_are_identical_and_make_no_pair():
    settings = SETTINGS.model_copy(update={"temperature": 0.0})
    made = prefkit.generate(QUESTIONS, settings=settings)
    assert made.comparisons == []
    assert made.counts["identical"] == 16
    assert made.counts["unpaired_prompts"] == 8


def test_a_journal_lets_a_second_call_sample_nothing(tmp_path):
    first = prefkit.generate(QUESTIONS, settings=SETTINGS, journal=tmp_path)
    chunks = sorted(p.name for p in tmp_path.glob("chunk-*.parquet"))
    again = prefkit.generate(QUESTIONS, settings=SETTINGS, journal=tmp_path)
    assert again.completions == first.completions
    assert again.comparisons == first.comparisons
    assert sorted(p.name for p in tmp_path.glob("chunk-*.parquet")) == chunks


@pytest.mark.parametrize("empty", [[], ()])
def test_no_prompts_is_a_data_error(empty):
    with pytest.raises(DataError, match="no prompts"):
        prefkit.generate(empty, settings=SETTINGS)


def test_an_unknown_pairing_fails_before_anything_is_sampled(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        prefkit.generate(
            QUESTIONS, settings=SETTINGS.model_copy(update={"pairing": "randm"}), journal=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_a_model_error():
    settings = GenerateSettings.model_validate({"engine": {"backend": "transformers"}})
    with pytest.raises(ModelError, match="no such model"):
        prefkit.generate(QUESTIONS, "./nowhere", settings)


def command(*arguments: str):
    return subprocess.run(
        [sys.executable, "-m", "prefkit", "generate", *arguments], capture_output=True, text=True
    )


def test_the_command_writes_both_files_and_one_json_line(tmp_path):
    prompts = tmp_path / "questions.txt"
    prompts.write_text("\n".join(QUESTIONS) + "\n")
    out = tmp_path / "out"
    done = command(str(prompts), "--out", str(out), "--backend", "scripted", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    candidates = read_records(out / "candidates.parquet", Completion)
    comparisons = read_records(out / "comparisons.parquet", Comparison)
    assert len(candidates) == value["n_candidates"] == 32
    assert len(comparisons) == value["n_comparisons"] == 8
    assert "sampling (scripted): 32/32" in done.stderr


def test_the_command_shows_pairs_and_names_the_next_command(tmp_path):
    prompts = tmp_path / "questions.txt"
    prompts.write_text("What is a bee?\n")
    done = command(str(prompts), "--out", str(tmp_path / "out"), "--backend", "scripted")
    assert done.returncode == 0, done.stderr
    assert "What is a bee?" in done.stdout
    assert "next: prefkit annotate" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.txt",), "missing.txt"),
        (("EMPTY",), "no prompts"),
        (("QUESTIONS", "--n", "0"), "n is 0"),
        (("QUESTIONS", "--set", "engine.batchsize=3"), "did you mean 'batch_size'"),
        (("QUESTIONS", "--pairing", "closest"), "unknown pairing"),
    ],
)
def test_a_mendable_fault_is_one_message_exit_1_and_leaves_nothing(tmp_path, arguments, said):
    empty, questions = tmp_path / "empty.txt", tmp_path / "questions.txt"
    empty.write_text("")
    questions.write_text("What is a bee?\n")
    paths = {"EMPTY": str(empty), "QUESTIONS": str(questions)}
    given = [paths.get(argument, argument) for argument in arguments]
    done = command(*given, "--backend", "scripted", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "comparisons.parquet").exists()
