"""What the lead sees is what the votes say: slices, weeks, caching, guidelines, files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from store_cases import pair, pairs, vote

from prefkit.aggregation.agreement import krippendorff_alpha
from prefkit.annotation import lead as lead_module
from prefkit.annotation import lead_files, lead_plots
from prefkit.annotation.adjudication import REASONS, Adjudication
from prefkit.annotation.guidelines import Guidelines, put_in_force
from prefkit.annotation.lead import Lead, plain
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import prepare
from prefkit.core.errors import DataError
from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.settings import parse_settings
from prefkit.store import VoteStore
from prefkit.store.leasing import repeat_id
from prefkit.store.tables import tasks

START = datetime(2026, 11, 2, 12, tzinfo=UTC)  # a Monday


@pytest.fixture
def store(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing is kept for a time: only while the votes are the same."""
    monkeypatch.setattr(lead_module, "SECONDS", 0.0)


def settings(**values):
    return parse_settings(AnnotateSettings, values)


def labelled(
    store, n=40, *, origin="web", noise=0.2, seed=0, at=START, raters=("kim", "lee", "rae")
):
    """n comparisons on which three people agree but for ``noise``; the values they gave."""
    rng = np.random.default_rng(seed)
    new = [pair(f"{origin} {k}", "one", "two", origin=origin) for k in range(n)]
    store.add(new, k=len(raters))
    rows = []
    for comparison in new:
        better = rng.random() < 0.5
        for rater in raters:
            says_a = better != (rng.random() < noise)
            strength = int(rng.integers(1, 4))
            choice, left = ("a" if says_a else "b"), ("a" if rng.random() < 0.5 else "b")
            cast = vote(comparison, rater, choice, strength=strength, shown_first=left,
                        at=at, active_ms=int(rng.integers(500, 9000)))  # fmt: skip
            rows.append((comparison, (1 if says_a else -1) * strength, cast))
    store.add_votes([cast for _, _, cast in rows])
    return rows


def test_agreement_is_that_of_peoples_votes_on_label_tasks(store):
    rows = labelled(store)
    comparisons = [row[0] for row in rows]
    once = {c.id: c for c in comparisons}
    store.add_votes([vote(c, "rule:x", "a", rater_kind="rule") for c in once.values()])
    found = Lead(store, settings()).agreement().overall
    number = {key: n for n, key in enumerate(once)}
    item = np.array([number[c.id] for c in comparisons])
    value = np.array([float(v) for _, v, _ in rows])
    assert found.alpha.value == pytest.approx(krippendorff_alpha(value, item))
    assert (found.n_comparisons, found.n_votes, found.scale) == (40, 120, "graded")


def test_slices_show_where_people_agree_and_where_not(store):
    labelled(store, origin="easy", noise=0.02, seed=1)
    labelled(store, origin="hard", noise=0.45, seed=2, at=START + timedelta(days=8))
    found = Lead(store, settings()).agreement()
    by = {each.by: each for each in found.slices}
    assert set(by["origin"].groups) == {"easy", "hard"}
    easy, hard = by["origin"].groups["easy"].alpha, by["origin"].groups["hard"].alpha
    assert easy.low > hard.high
    assert "models" not in by  # one pair of models: nothing to tell apart
    assert list(found.weeks) == ["2026-11-02", "2026-11-09"]
    plots = lead_plots.agreement(found)
    assert plots["origin"].startswith("<svg")
    assert "2026-11-09" in plots["weeks"]


def test_tags_and_models_are_slices_and_small_groups_are_counted(store, monkeypatch):
    monkeypatch.setattr(lead_module, "MOST_GROUPS", 2)
    for n in range(12):
        prompt = Prompt.make([Message.of("user", f"q{n}")], tags={"topic": f"t{n % 4}"})
        sides = [Completion.make(prompt.id, [Message.of("assistant", f"{n} {m}")], m)
                 for m in ("m1", f"m{2 + n % 2}")]  # fmt: skip
        comparison = Comparison.make(prompt, *sides, origin="x")
        store.add([comparison], k=2)
        store.add_votes([vote(comparison, "kim", "a"), vote(comparison, "lee", "b")])
    by = {each.by: each for each in Lead(store, settings()).agreement().slices}
    assert set(by["models"].groups) == {"m1 | m2", "m1 | m3"}
    assert (len(by["tag topic"].groups), by["tag topic"].left_out) == (2, 2)


def test_new_votes_are_seen_and_nothing_is_computed_twice(store, monkeypatch):
    labelled(store, 10)
    lead = Lead(store, settings())
    computed = []
    real = lead_module.agreement
    monkeypatch.setattr(
        lead_module,
        "agreement",
        lambda *args, **values: computed.append(1) or real(*args, **values),
    )
    first = lead.agreement()
    n = len(computed)
    assert n > 0
    assert lead.agreement() is first
    assert len(computed) == n
    labelled(store, 5, origin="more")
    assert lead.agreement().overall.n_comparisons == 15
    assert len(computed) > n


def test_votes_that_come_late_with_a_lower_number_are_not_missed():
    """As on PostgreSQL, where row 3 may be committed after row 4 was read."""
    there = {1: "a", 2: "b", 4: "d"}
    known = {}

    def after(seq):
        return [(at, there[at]) for at in sorted(there) if at > seq][:2]

    lead_module._catch_up(known, after)
    there[3] = "c"
    lead_module._catch_up(known, after)
    assert known == {1: "a", 2: "b", 3: "c", 4: "d"}


def test_biases_use_repeats_and_no_gold(store):
    rows = labelled(store, 30)
    comparison, _, first = rows[0]
    again = repeat_id(comparison.id, first.rater)
    task = {"id": again, "comparison_id": comparison.id, "kind": "repeat", "k": 1, "n_done": 0,
            "n_leased": 0, "shuffle": 0, "lane": 3, "priority": 0,
            "only_rater": first.rater}  # fmt: skip
    store.database.write(lambda c: c.execute(tasks.insert(), task))
    other = {"a": "b", "b": "a"}
    from dataclasses import replace

    repeat = replace(first, id="again", task_id=again, choice=other[first.choice],
                     shown_first=other[first.shown_first])  # fmt: skip
    store.add_votes([repeat])
    store.add_gold([(pair("gold", "right", "wrong"), "a")])
    found = {each.name: each for each in Lead(store, settings()).biases()}
    assert found["left"].n_votes == 90
    assert found["left_twice"].n_votes == 1
    assert found["longer"].n_votes == 0  # "one" and "two" are as long
    assert lead_plots.bias(list(found.values())).startswith("<svg")


def test_raters_have_their_facts_and_their_quality(store):
    kim = store.rater_id("Kim")
    labelled(store, 20, raters=(kim, "lee", "rae"))
    store.rater_id("Idle")
    lines = Lead(store, settings(fast_ms=600)).raters()
    mine = next(line for line in lines if line.facts.name == "Kim")
    assert (mine.facts.n_votes, mine.quality.n_votes) == (20, 20)
    assert mine.quality.agreement.n > 0
    assert mine.quality.fast is not None
    assert [line.facts.n_votes for line in lines] == [20, 20, 20, 0]
    assert lines[-1].quality is None
    assert "Kim" in lead_plots.raters(lines)


def test_an_empty_store_has_a_page_too(store):
    lead = Lead(store, settings())
    overview, agreed = lead.overview(), lead.agreement()
    assert (lead_plots.progress(overview), lead_plots.bias(lead.biases())) == (None, None)
    assert agreed.overall.alpha is None
    assert set(agreed.overall.why.values()) == {"no comparison has two votes"}
    assert lead_plots.agreement(agreed) == {"weeks": None}
    assert lead_plots.raters(lead.raters()) is None
    json.dumps(plain([overview, agreed, lead.biases(), lead.raters()]), allow_nan=False)


def test_the_overview_has_days_a_plot_and_a_forecast(store):
    labelled(store, 10)
    labelled(store, 10, origin="later", at=START + timedelta(days=1))
    store.add(pairs(20), k=3)
    found = Lead(store, settings()).overview((START + timedelta(days=2)).date())
    assert [day.n_votes for day in found.days] == [30, 30]
    assert (found.progress.wanted, found.progress.done) == (120, 60)
    assert found.forecast.likely == (START + timedelta(days=4)).date()
    assert lead_plots.progress(found).startswith("<svg")


# Guidelines


def decided(store, comparison):
    return vote(comparison, "rev", "a", rationale="b invents a date")


def test_an_example_is_a_new_version_that_survives_a_restart(store):
    (comparison,) = [pair("When?", "In 1969.", "In 1970.\n\n```\nx")]
    store.add([comparison])
    ours = settings()
    assert put_in_force(store, ours)
    guidelines = Guidelines(store, ours)
    before = guidelines.look()
    after = guidelines.add_example(comparison, decided(store, comparison), "Dates count.", "u1")
    assert after.version != before.version
    assert after.base == before.version == ours.guideline_version
    assert after.text.startswith(before.text.rstrip())
    assert "### Example 1" in after.text
    assert "**The first answer is better.** Dates count." in after.text
    assert "> In 1969." in after.text or "> In 1970." in after.text
    prepare(store, ours)  # as a start does
    assert Guidelines(store, ours).look() == after
    second = guidelines.add_example(comparison, decided(store, comparison), "", "u1")
    assert second.text.count("## Examples\n") == 1
    assert "### Example 2" in second.text
    assert store.guidelines(after.version) == after.text
    assert store.verify() == []


def test_an_example_of_broken_text_can_be_read(store):
    comparison = pair("lone \ud800 and \0", "", "x" * 5000)
    store.add([comparison])
    put_in_force(store, settings())
    after = Guidelines(store, settings()).add_example(
        comparison, decided(store, comparison), "", "u"
    )
    assert after.text.encode()
    assert "\0" not in after.text
    assert store.guidelines(after.version) == after.text
    assert "> (empty)" in after.text
    assert max(map(len, after.text.splitlines())) < 900


def test_another_text_in_the_settings_replaces_the_examples(store):
    (comparison,) = pairs(1)
    store.add([comparison])
    put_in_force(store, settings())
    Guidelines(store, settings()).add_example(comparison, decided(store, comparison), "", "u1")
    other = settings(guidelines="Be brief.")
    assert put_in_force(store, other)
    assert Guidelines(store, other).look().text == "Be brief."


def test_another_process_sees_the_example_soon(store, monkeypatch):
    from prefkit.annotation import guidelines as module

    (comparison,) = pairs(1)
    store.add([comparison])
    put_in_force(store, settings())
    here, there = Guidelines(store, settings()), Guidelines(store, settings())
    old = there.look().version
    after = here.add_example(comparison, decided(store, comparison), "", "u1")
    assert there.look().version == old
    monkeypatch.setattr(module, "SECONDS", 0.0)
    assert there.look().version == there.version == after.version


# Files


def test_files_hold_ids_and_no_words(store):
    kim = store.rater_id("Kim Secret")
    (comparison,) = pairs(1)
    store.add([comparison])
    store.add_votes([vote(comparison, kim, "a", rationale="my own words")])
    for what in lead_files.kinds():
        made = lead_files.write(store, what, "vote_share")
        data = made.path.read_bytes()
        made.folder.cleanup()
        assert data
        assert b"Secret" not in data
        assert b"my own words" not in data
        assert not made.path.exists()
    made = lead_files.write(store, "votes", "auto")
    (row,) = [json.loads(line) for line in made.path.read_text().splitlines()]
    assert (row["rater"], row["choice"], row["stands"]) == (kim, "a", True)


def test_nothing_believed_is_said_and_leaves_no_folder(store, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match="no comparison has a vote"):
        lead_files.write(store, "trl", "auto")
    assert not list(tmp_path.glob("prefkit-export-*"))


def test_there_are_ten_reasons_in_four_classes():
    assert len(REASONS) == 10
    assert {kind for kind, _ in REASONS.values()} == {"Task", "Style", "Refusal", "Error"}


def test_sides_of_cases_are_drawn_by_lot(store):
    new = pairs(60)
    store.add(new, k=2)
    store.add_votes([v for c in new for v in (vote(c, "kim", "a"), vote(c, "lee", "b"))])
    adjudication = Adjudication(store)
    sides = [adjudication.open("rev", comparison.id).shown_first for comparison in new]
    assert 18 < sides.count("a") < 42
    others = [adjudication.open("second", comparison.id).shown_first for comparison in new]
    assert sides != others
