"""``prefkit aggregate``: files, screen, JSON and the page, calibrated or not."""

from __future__ import annotations

import json
import re

import pytest
from report_pages import by_class, plots
from vote_tables import planted, records_of

from prefkit.core.records import Comparison, Example, Preference, Vote
from prefkit.formats.tables import read_records, write_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Comparisons, and votes of five raters on them: three each, and the first of each alone."""
    folder = tmp_path_factory.mktemp("votes")
    world = planted(1, n_items=120, k=3, errors=[0.02, 0.1, 0.2, 0.3, 0.45], n_responses=40)
    comparisons, votes = records_of(world.table)
    write_records(folder / "comparisons.parquet", comparisons, Comparison)
    write_records(folder / "votes.parquet", votes, Vote)
    write_records(folder / "single.parquet", votes[::3], Vote)
    return folder


def aggregate_words(folder, votes, out):
    return ["aggregate", folder / "comparisons.parquet", "--votes", folder / votes, "--out", out]


def test_every_method_is_scored_and_the_best_is_written(run, folder, tmp_path):
    code, out, _ = run(*aggregate_words(folder, "votes.parquet", tmp_path), "--json")
    assert code == 0
    value = json.loads(out.splitlines()[-1])
    assert value["uncalibrated"] is None
    assert set(value["scores"]) == {
        "majority", "vote_share", "fitted_share", "strength", "dawid_skene", "bradley_terry",
        "response_bradley_terry", "auto",
    }  # fmt: skip
    score = value["scores"][value["method"]]
    low, high = score["log_loss_interval"]
    assert low < score["log_loss"] < high
    preferences = read_records(tmp_path / "preferences.parquet", Preference)
    assert len(preferences) == value["n_preferences"] == 120
    assert {p.method for p in preferences} == {value["method"]}
    assert len(read_records(tmp_path / "examples.parquet", Example)) == 120


def test_the_screen_names_the_method_and_every_score(run, folder, tmp_path):
    _, out, _ = run(*aggregate_words(folder, "votes.parquet", tmp_path))
    out = " ".join(out.split())
    assert "360 held-out votes" in out
    assert "(picked)" in out
    assert re.search(r"dawid_skene( \(picked\))? +0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]", out)
    assert "next: prefkit curate" in out


def test_one_vote_each_says_uncalibrated_on_screen_page_and_in_json(run, folder, tmp_path):
    words = aggregate_words(folder, "single.parquet", tmp_path)
    out = " ".join(run(*words)[1].split())
    said = "uncalibrated: every comparison has the vote of one rater"
    assert f"vote_share, {said}" in out
    value = json.loads(run(*words, "--json")[1].splitlines()[-1])
    assert (value["method"], value["scores"], value["temperature"]) == ("vote_share", {}, None)
    assert value["uncalibrated"] == "every comparison has the vote of one rater"
    page = (tmp_path / "aggregation.html").read_text(encoding="utf-8")
    assert said in page
    assert "was not measured" in page


def test_the_page_draws_scores_and_reliability_and_needs_nothing_else(run, folder, tmp_path):
    run(*aggregate_words(folder, "votes.parquet", tmp_path))
    page = (tmp_path / "aggregation.html").read_text(encoding="utf-8")
    scores, reliability, sureness = plots(page)
    assert len(by_class(scores, "bar")) == 7
    assert "as it should be" in "".join(reliability.itertext())
    assert len(by_class(sureness, "bar")) >= 1
    assert "://" not in page
    assert "Uncalibrated" not in page


def test_a_named_method_is_used_and_the_others_are_scored_beside_it(run, folder, tmp_path):
    words = aggregate_words(folder, "votes.parquet", tmp_path)
    value = json.loads(run(*words, "--method", "strength", "--json")[1].splitlines()[-1])
    assert value["method"] == "strength"
    assert "dawid_skene" in value["scores"]


def test_the_name_of_the_votes_is_shown_as_text(run, folder, tmp_path):
    name = "votes <b>bold</b>.parquet"
    votes = read_records(folder / "single.parquet", Vote)
    write_records(tmp_path / name, votes, Vote)
    run("aggregate", folder / "comparisons.parquet", "--votes", tmp_path / name, "--out", tmp_path)
    page = (tmp_path / "aggregation.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page


def test_examples_pass_recipe_none_whole(run, folder, tmp_path):
    run(*aggregate_words(folder, "votes.parquet", tmp_path))
    words = ["curate", tmp_path / "examples.parquet", "--recipe", "none", "--out", tmp_path / "c"]
    value = json.loads(run(*words, "--json")[1].splitlines()[-1])
    assert (value["n_kept"], value["n_dropped"]) == (120, 0)


def test_an_unknown_method_is_one_line_that_knows_the_near_one(run, folder, tmp_path):
    words = aggregate_words(folder, "votes.parquet", tmp_path)
    code, _, err = run(*words, "--method", "dawid_skeen")
    assert code == 1
    assert "did you mean 'dawid_skene'" in err
    assert "auto" in err
    assert not (tmp_path / "preferences.parquet").exists()
