"""The dataset card: a header that the Hub reads, tables that hold whatever is put into them."""

from __future__ import annotations

import yaml
from huggingface_hub import DatasetCard

from prefkit.formats.card import CardFacts, Guideline, RaterFacts, Share, dataset_card


def facts(**values) -> CardFacts:
    given = {
        "name": "pairs",
        "file": 'a: "b".jsonl',
        "about": "as trl",
        "n_rows": 1200,
        "columns": ["prompt", "chosen"],
        "version": "0.1.0",
        "date": "2026-11-22",
        "method": "vote_share",
        "n_comparisons": 1300,
        "n_with_preference": 1200,
        "votes_a_comparison": {0: 100, 1: 1200},
        "choices": {"a": 700, "b": 500, "both_bad": 3},
        "raters": [RaterFacts("u1", "human", 1200, 4.25), RaterFacts("rule:x", "rule", 3, None)],
    }
    return CardFacts(**{**given, **values})


def test_the_header_is_yaml_that_the_hub_reads_whatever_the_file_is_called():
    card = DatasetCard(dataset_card(facts()))
    assert card.data.to_dict()["size_categories"] == ["1K<n<10K"]
    header = yaml.safe_load(dataset_card(facts()).split("---")[1])
    assert header["configs"][0]["data_files"] == 'a: "b".jsonl'


def test_what_is_not_known_is_not_there():
    text = dataset_card(facts())
    for title in ("## Agreement", "## Bias", "## Time", "## What raters were told"):
        assert title not in text
    assert "1 person and 1 machine, under opaque ids." in text
    assert "| `u1` | human | 1200 | 4.2 |" in text
    assert "| `rule:x` | rule | 3 | – |" in text


def test_bias_time_agreement_and_guidelines_stand_under_their_titles():
    text = dataset_card(
        facts(
            bias=[
                Share("left", 0.61, (0.55, 0.67), 300, "1.40 (1.10 to 1.80)"),
                Share("longer", 1.0, None, 1),
            ],
            hours=2.5,
            n_untimed=7,
            agreement=["α 0.41 (0.30 to 0.50)"],
            guidelines=[Guideline("v2", 9, "# Look\n\nat truth"), Guideline("v1", 1, None)],
        )
    )
    assert "| left | 0.610 | 0.550 to 0.670 | 300 | 1.40 (1.10 to 1.80) |" in text
    assert "| longer | 1.000 | – | 1 | – |" in text
    assert "2.5 hours of people's time with a pair in view (7 votes without a time)." in text
    assert "## Agreement\n\nα 0.41 (0.30 to 0.50)" in text
    # Quoted: the heading is the guideline's, not the card's.
    assert "> # Look\n>\n> at truth" in text
    assert "Version `v1`, 1 votes:\n\n> (its text was not kept)" in text


def test_a_rater_cannot_break_the_table():
    text = dataset_card(facts(raters=[RaterFacts("a|b\nc", "human", 1, None)]))
    assert "| `a\\|b c` | human | 1 | – |" in text
