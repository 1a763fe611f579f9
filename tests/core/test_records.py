"""Laws of ids and records, and their way through Arrow and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import DataError
from prefkit.core.ids import canonical_json, content_id
from prefkit.core.records import (
    CHOICES,
    Comparison,
    Completion,
    Example,
    Message,
    Part,
    Preference,
    Prompt,
    Sampling,
    Task,
    Verdict,
    Vote,
)
from prefkit.core.rng import derive_rng, derive_seed
from prefkit.formats.schema import from_table, to_table
from prefkit.formats.tables import read_records, write_records

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.dictionaries(TEXT, TEXT, max_size=2)
PARTS = st.one_of(
    st.builds(Part, st.just("text"), text=TEXT), st.builds(Part, st.just("image"), path=TEXT)
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        st.lists(PARTS, max_size=2).map(tuple),
        st.none() | TEXT,
        st.none() | TEXT,
    ),
    min_size=1,
    max_size=3,
)
PROMPTS = st.builds(
    lambda m, tools, source, tags: Prompt.make(m, tools=tools, source=source, tags=tags),
    MESSAGES,
    st.none() | TEXT,
    TEXT,
    NAMES,
)
SAMPLINGS = st.none() | st.builds(Sampling, st.floats(0, 2), st.floats(0.1, 1), st.integers(1, 999))
PROBABILITY = st.floats(0, 1)
TIMES = st.integers(0, 4 * 10**15).map(
    lambda microseconds: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
)


@st.composite
def completions(draw, prompt_id: str = "p"):
    return Completion.make(
        prompt_id,
        draw(MESSAGES),
        draw(TEXT),
        sampling=draw(SAMPLINGS),
        seed=draw(st.none() | st.integers(0, 2**31)),
        sample_index=draw(st.integers(0, 9)),
        finish_reason=draw(st.sampled_from(["stop", "length", None])),
        logprob=draw(st.none() | st.floats(-1e6, 0)),
    )


@st.composite
def comparisons(draw):
    prompt = draw(PROMPTS)
    one, other = draw(completions(prompt.id)), draw(completions(prompt.id))
    if one.id == other.id:
        other = Completion.make(prompt.id, other.messages, other.model + "'")
    return Comparison.make(prompt, one, other, origin=draw(TEXT))


@st.composite
def examples(draw):
    return Example.make(
        draw(PROMPTS),
        draw(MESSAGES),
        draw(MESSAGES),
        p=draw(PROBABILITY),
        weight=draw(st.floats(0, 9)),
        margin=draw(st.none() | st.floats(-9, 9)),
        votes=draw(st.none() | TEXT),
        tags=draw(NAMES),
        evidence=draw(st.none() | TEXT),
    )[0]


VOTES = st.builds(
    Vote,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.sampled_from(["human", "judge", "reward", "rule"]),
    st.sampled_from(CHOICES),
    TIMES,
    strength=st.none() | st.integers(0, 3),
    p_a=st.none() | PROBABILITY,
    confidence=st.none() | PROBABILITY,
    aspects=NAMES,
    rationale=st.none() | TEXT,
    edit=st.none() | TEXT,
    shown_first=st.sampled_from(["a", "b", None]),
    active_ms=st.none() | st.integers(0, 10**6),
    guideline_version=st.none() | TEXT,
    late=st.booleans(),
    replaces=st.none() | TEXT,
)
MAYBE = st.none() | st.floats(-5, 5)
RECORDS = {
    Prompt: PROMPTS,
    Completion: completions(),
    Comparison: comparisons(),
    Task: st.builds(Task, TEXT, TEXT, st.sampled_from(["label", "gold"]), st.integers(1, 9)),
    Vote: VOTES,
    Preference: st.builds(
        Preference, TEXT, PROBABILITY, st.integers(0, 9), MAYBE, st.floats(0, 9), MAYBE,
        st.none() | TEXT, TEXT, TEXT,
    ),
    Example: examples(),
    Verdict: st.builds(
        Verdict, TEXT, TEXT, st.sampled_from(["keep", "drop"]), TEXT, MAYBE, st.none() | TEXT,
        st.none() | TEXT, TEXT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("record_type", RECORDS)
@given(data=st.data())
def test_every_record_survives_arrow_and_parquet(record_type, data, tmp_path_factory):
    records = data.draw(st.lists(RECORDS[record_type], max_size=3))
    assert from_table(to_table(records, record_type), record_type) == records
    path = tmp_path_factory.mktemp("records") / "x.parquet"
    write_records(path, records, record_type)
    assert read_records(path, record_type) == records


def test_a_file_of_other_records_is_refused(tmp_path):
    write_records(tmp_path / "x.parquet", [Task("t", "c")], Task)
    with pytest.raises(DataError, match="not a file of votes: column 'task_id' is missing"):
        read_records(tmp_path / "x.parquet", Vote)
    (tmp_path / "y.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"y\.parquet: not a Parquet file"):
        read_records(tmp_path / "y.parquet", Vote)
    with pytest.raises(DataError, match="no such file"):
        read_records(tmp_path / "none.parquet", Vote)


@given(comparison=comparisons())
def test_a_comparison_does_not_know_the_order_it_was_made_in(comparison):
    turned = Comparison.make(
        comparison.prompt, comparison.b, comparison.a, origin=comparison.origin
    )
    assert turned == comparison
    assert comparison.a.id < comparison.b.id


@given(one=completions())
def test_a_completion_is_not_compared_with_itself(one):
    prompt = Prompt.make([Message.of("user", "q")])
    with pytest.raises(DataError, match="compared with itself"):
        Comparison.make(prompt, one, replace(one))


@given(prompt=PROMPTS, chosen=MESSAGES, rejected=MESSAGES, p=PROBABILITY, margin=MAYBE)
def test_an_example_is_flipped_exactly_below_half(prompt, chosen, rejected, p, margin):
    example, flipped = Example.make(prompt, chosen, rejected, p=p, margin=margin)
    assert flipped == (p < 0.5)
    assert 0.5 <= example.p <= 1
    assert example.chosen == tuple(rejected if flipped else chosen)
    mirrored, _ = Example.make(
        prompt, rejected, chosen, p=1 - p, margin=None if margin is None else -margin
    )
    if p != 0.5 and 1 - p != 0.5:  # 1 - p rounds to 0.5 just below it: then a tie keeps its order
        assert mirrored.id == example.id
        assert mirrored.margin == example.margin


@given(prompt=PROMPTS, source=TEXT, tags=NAMES)
def test_source_and_tags_do_not_change_a_prompts_id(prompt, source, tags):
    again = Prompt.make(prompt.messages, tools=prompt.tools, source=source, tags=tags)
    assert again.id == prompt.id
    assert Prompt.make([*prompt.messages, Message.of("user", "more")]).id != prompt.id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON, other=JSON)
def test_ids_are_equal_exactly_for_equal_json(value, other):
    same = canonical_json(value) == canonical_json(other)
    assert (content_id(value) == content_id(other)) == same
    assert json.loads(canonical_json(value)) == value
    assert len(content_id(value)) == 32


@given(names=NAMES)
def test_ids_do_not_depend_on_the_order_of_keys(names):
    assert content_id(names) == content_id(dict(reversed(names.items())))


def test_an_id_is_stable_over_versions_of_prefkit():
    """BLAKE2b-128 of the bytes {"a":[1,null,"ä"]}: ids stand in users' files."""
    import hashlib

    expected = hashlib.blake2b(b'{"a":[1,null,"\xc3\xa4"]}', digest_size=16).hexdigest()
    assert content_id({"a": [1, None, "ä"]}) == expected


def test_ids_refuse_nan_and_take_lone_surrogates():
    with pytest.raises(ValueError, match="JSON compliant"):
        content_id(float("nan"))
    assert content_id("\ud800") != content_id("\ud801")


@given(parts=st.lists(st.integers() | TEXT, min_size=1, max_size=3))
def test_seeds_depend_on_their_parts_alone(parts):
    assert derive_seed(*parts) == derive_seed(*parts)
    assert 0 <= derive_seed(*parts) < 2**31
    assert derive_rng(*parts).random() == derive_rng(*parts).random()


def test_neighbouring_rows_get_seeds_far_apart():
    seeds = sorted(derive_seed("row", n) for n in range(1000))
    assert len(set(seeds)) == 1000
    assert sum(b - a < 8 for a, b in pairwise(seeds)) < 5


def test_times_come_back_in_utc():
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    vote = Vote("v", "t", "c", "r", "human", "a", at.astimezone())
    (again,) = from_table(to_table([vote], Vote), Vote)
    assert again.at == at
    assert again.at.utcoffset() == timedelta(0)
