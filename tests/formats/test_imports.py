"""Exports of Label Studio, Argilla and Potato, in the shapes that those tools write."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import ConfigError, DataError
from prefkit.formats.imports import IMPORTS, Asked, Words, format_of, import_rows
from prefkit.formats.imports.potato import potato_folder
from prefkit.formats.imports.source import Level, Ranks
from prefkit.formats.imports.words import Said, parse_choices
from prefkit.formats.load import rows_of
from prefkit.formats.rows import Rows, read_rows

WORDS = Words()


def said_of(imported):
    """(prompt, better text or the choice, strength, rater) of each vote, in their order."""
    by_id = {comparison.id: comparison for comparison in imported.comparisons}
    found = []
    for vote in imported.votes:
        comparison = by_id[vote.comparison_id]
        sides = {"a": comparison.a.text, "b": comparison.b.text}
        better = sides.get(vote.choice, vote.choice)
        found.append((comparison.prompt.text, better, vote.strength, vote.rater))
    return found


def read(rows, name, *, words=WORDS, **asked):
    assert format_of(rows) == name
    imported = import_rows(rows, name, Asked(**asked), words)
    counts = imported.counts
    assert counts["n_rows"] == (
        counts["n_comparisons"] + counts["n_repeated_pairs"] + counts["n_rows_left_out"]
    )
    assert counts["n_judgements"] == (
        counts["n_votes"] + counts["n_repeated_votes"] + counts["n_judgements_left_out"]
    )
    return imported


# Label Studio


def annotation(number, user, value, kind="pairwise", name="pw", **more):
    result = {"from_name": name, "to_name": name, "type": kind, "value": value, "id": "x"}
    return {
        "id": number,
        "completed_by": user,
        "result": [result],
        "was_cancelled": False,
        "created_at": "2026-03-09T21:52:49.513742Z",
        "updated_at": "2026-03-09T22:16:08.746926Z",
        "lead_time": 4.288,
        **more,
    }


def task(number, annotations, **data):
    texts = {"prompt": f"q{number}", "answer1": f"one {number}", "answer2": f"two {number}"}
    return {"id": number, "project": 83, "data": {**texts, **data}, "annotations": annotations}


def label_studio(tmp_path, *tasks):
    path = tmp_path / "project-83.json"
    path.write_text(json.dumps(list(tasks), indent=1))
    return read_rows(path)


def test_pairwise_annotations_become_votes_on_the_side_they_selected(tmp_path):
    rows = label_studio(
        tmp_path,
        task(1, [annotation(7, 3, {"selected": "left"}), annotation(8, 4, {"selected": "right"})]),
        task(2, [annotation(9, {"id": 3, "email": "k@x.org"}, {"selected": "right"})]),
        task(3, []),
    )
    imported = read(rows, "label-studio")
    assert len(imported.comparisons) == 3
    assert sorted(said_of(imported)) == [
        ("q1", "one 1", None, "user 3"),
        ("q1", "two 1", None, "user 4"),
        ("q2", "two 2", None, "user 3"),
    ]
    assert imported.source == "label-studio project 83"
    vote = imported.votes[0]
    assert vote.at == datetime(2026, 3, 9, 22, 16, 8, 746926, tzinfo=UTC)
    assert vote.active_ms == 4288


def test_choices_text_areas_and_cancelled_annotations_are_read(tmp_path):
    reason = {"from_name": "why", "type": "textarea", "value": {"text": ["clear", "and short"]}}
    choice = annotation(1, 3, {"choices": ["Response B is much better"]}, "choices", "pick")
    choice["result"].append(reason)
    rows = label_studio(
        tmp_path,
        task(1, [choice, annotation(2, 4, {"choices": ["Tie"]}, "choices", "pick")]),
        task(2, [annotation(3, 3, {}, "choices", "pick", was_cancelled=True, result=[])]),
        task(3, [annotation(4, 3, {}, "choices", "pick", result=[])]),
    )
    imported = read(rows, "label-studio", rationale="why")
    assert sorted(said_of(imported)) == [
        ("q1", "tie", 0, "user 4"),
        ("q1", "two 1", 3, "user 3"),
        ("q2", "skip", None, "user 3"),
    ]
    assert {vote.rationale for vote in imported.votes} == {None, "clear\nand short"}
    place = f"{tmp_path}/project-83.json: row 3 (task 3), annotation 4"
    assert imported.left_out == [(place, "no answer to pick")]


def test_a_bad_annotation_is_named_by_file_row_and_number_and_can_be_left_out(tmp_path):
    rows = label_studio(
        tmp_path,
        task(1, [annotation(5, 3, {"selected": "middle"}), annotation(6, 3, {"selected": "left"})]),
        task(2, [annotation(7, None, {"selected": "left"})]),
        {"id": 9, "project": 83, "data": None, "annotations": []},
    )
    with pytest.raises(DataError) as caught:
        import_rows(rows, "label-studio", Asked(), WORDS)
    text = caught.value.message
    assert "row 1 (task 1), annotation 5: selected is 'middle'; expected left or right" in text
    assert "row 2 (task 2), annotation 7: completed_by is None" in text
    assert "row 3 (task 9): data is None; expected an object" in text
    imported = read(rows, "label-studio", skip_bad=True)
    assert len(imported.votes) == 1
    assert len(imported.left_out) == 3


@pytest.mark.parametrize("name", ["min.json", "min.csv"])
def test_exports_of_label_studio_that_do_not_say_which_column_is_an_answer_are_refused(
    tmp_path, name
):
    """As label_studio_sdk's converter writes JSON_MIN and CSV: taken for pairs, votes would go."""
    row = {"id": 1, "prompt": "q", "answer1": "one", "answer2": "two", "pw": "left",
           "annotator": 3, "annotation_id": 7, "created_at": "2026-03-09T21:52:49Z",
           "updated_at": "2026-03-09T21:52:49Z", "lead_time": 4.2}  # fmt: skip
    path = tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps([row]))
    else:
        path.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    rows = read_rows(path)
    assert format_of(rows) == "label-studio"
    with pytest.raises(DataError, match="JSON-MIN or CSV") as caught:
        import_rows(rows, "label-studio", Asked(), WORDS)
    assert "export as JSON" in (caught.value.hint or "")


def test_reasons_under_a_name_that_nobody_used_are_asked_for(tmp_path):
    rows = label_studio(tmp_path, task(1, [annotation(1, 3, {"selected": "left"})]))
    with pytest.raises(DataError, match="no text under --rationale whi"):
        import_rows(rows, "label-studio", Asked(rationale="whi"), WORDS)
    assert import_rows(label_studio(tmp_path, task(1, [])), "label-studio",
                       Asked(rationale="why"), WORDS).votes == []  # fmt: skip


def test_of_several_questions_one_has_to_be_named(tmp_path):
    both = annotation(1, 3, {"selected": "left"})
    both["result"].append(
        {"from_name": "style", "type": "choices", "value": {"choices": ["Right"]}}
    )
    rows = label_studio(tmp_path, task(1, [both]))
    with pytest.raises(DataError, match=r"several questions .*: pw, style"):
        import_rows(rows, "label-studio", Asked(), WORDS)
    assert said_of(read(rows, "label-studio", question="style"))[0][1] == "two 1"
    with pytest.raises(DataError, match="no answers to a question 'stile'"):
        import_rows(rows, "label-studio", Asked(question="stile"), WORDS)


@pytest.mark.parametrize("nothing", [None, ""])
def test_rows_without_a_prompt_take_the_one_that_is_given(tmp_path, nothing):
    rows = label_studio(tmp_path, task(1, [annotation(1, 3, {"selected": "left"})], prompt=nothing))
    with pytest.raises(DataError, match="prompt"):
        import_rows(rows, "label-studio", Asked(), WORDS)
    assert said_of(read(rows, "label-studio", prompt="Which is ruder?"))[0][0] == "Which is ruder?"


# Argilla

ARGILLA = [
    {
        "id": "r1",
        "status": "completed",
        "_server_id": "9d1c",
        "instruction": "q1",
        "response_1": "one",
        "response_2": "two",
        "better.responses": ["response_1", "response_2", "response_1"],
        "better.responses.users": ["u-1", "u-2", "u-3"],
        "better.responses.status": ["submitted", "submitted", "draft"],
        "why.responses": ["because"],
        "why.responses.users": ["u-2"],
        "why.responses.status": ["submitted"],
        "better.suggestion": "response_2",
    },
    {
        "id": "r2",
        "status": "pending",
        "_server_id": "9d1d",
        "instruction": "q2",
        "response_1": "eins",
        "response_2": "zwei",
        "better.responses": ["response_2"],
        "better.responses.users": ["u-1"],
        "better.responses.status": ["discarded"],
        "why.responses": None,
        "why.responses.users": None,
        "why.responses.status": None,
        "better.suggestion": None,
    },
]


@pytest.mark.parametrize("how", ["list", "dataset", "parquet", "jsonl", "disk"])
def test_argillas_data_set_is_read_with_responses_and_status_however_it_was_saved(tmp_path, how):
    data = datasets.Dataset.from_list(ARGILLA)
    if how == "parquet":
        data.to_parquet(tmp_path / "a.parquet")
    elif how == "jsonl":
        data.to_json(tmp_path / "a.jsonl")
    elif how == "disk":
        data.save_to_disk(tmp_path / "a")
    of = {"list": ARGILLA, "dataset": data, "disk": str(tmp_path / "a")}
    rows = rows_of(of.get(how, str(tmp_path / f"a.{how}")))
    imported = read(rows, "argilla", question="better", rationale="why")
    assert sorted(said_of(imported)) == [
        ("q1", "one", None, "user u-1"),
        ("q1", "two", None, "user u-2"),
        ("q2", "skip", None, "user u-1"),
    ]
    assert [vote.rationale for vote in imported.votes].count("because") == 1
    assert [reason for _, reason in imported.left_out] == ["a draft"]
    assert "(record r1), user u-3" in imported.left_out[0][0]


def test_the_feedback_data_sets_of_argilla_1_are_read(tmp_path):
    rows = rows_of(
        [
            {
                "instruction": "q",
                "response-1": "one",
                "response-2": "two",
                "rank": [
                    {
                        "user_id": "u",
                        "value": [{"value": "response-1", "rank": 2},
                                  {"value": "response-2", "rank": 1}],
                        "status": "submitted",
                    },
                    {
                        "user_id": "v",
                        "value": [{"value": "response-1", "rank": 1},
                                  {"value": "response-2", "rank": 1}],
                        "status": "submitted",
                    },
                ],
                "rank-suggestion": None,
                "external_id": None,
            }
        ]
    )  # fmt: skip
    mapping = {"prompt": "instruction", "a": "response-1", "b": "response-2"}
    imported = read(rows, "argilla", mapping=mapping)
    assert said_of(imported) == [("q", "two", None, "user u"), ("q", "tie", 0, "user v")]


def test_argillas_json_is_refused_because_drafts_in_it_look_like_answers():
    rows = rows_of([{"id": "1", "fields": {}, "responses": {}, "suggestions": {}}])
    with pytest.raises(DataError, match="without their status") as caught:
        import_rows(rows, "argilla", Asked(), WORDS)
    assert "to_datasets()" in (caught.value.hint or "")


def test_ratings_are_votes_only_once_their_meaning_is_said():
    row = {**ARGILLA[0], "better.responses": [1, 5, 3]}
    for name in [name for name in row if name.startswith("why")]:
        del row[name]
    rows = rows_of([row])
    with pytest.raises(DataError, match="'1' says neither which answer is better") as caught:
        import_rows(rows, "argilla", Asked(), WORDS)
    assert "--choice" in (caught.value.hint or "")
    imported = read(rows, "argilla", words=Words(parse_choices(["1=a:3", "5=b:3", "3=tie"])))
    assert sorted(said_of(imported)) == [("q1", "one", 3, "user u-1"), ("q1", "two", 3, "user u-2")]


# Potato


def potato_1(number, answer, **more):
    return {
        "id": str(number),
        "displayed_text": f"A. one {number}<br>B. two {number}",
        "label_annotations": answer,
        "span_annotations": {},
        "behavioral_data": {"time_string": "Time spent: 0d 0h 9m 48s "},
        **more,
    }


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ITEMS = [
    {"id": "1", "text": ["one 1", "two 1"], "prompt": "q1"},
    {"id": "2", "text": ["one 2", "two 2"], "prompt": "q2"},
]


def test_the_output_folder_of_potato_1_is_read_user_by_user(tmp_path):
    output = tmp_path / "annotation_output"
    write_lines(output / "kim@x.org" / "annotated_instances.jsonl", [
        potato_1(1, {"preference": {"A": "true"}}),
        potato_1(2, {"preference": {"B": "B"}, "why": {"text_box": "shorter"}}),
    ])  # fmt: skip
    write_lines(output / "rae" / "annotated_instances.jsonl", [
        potato_1(1, {"preference": {"selection": "tie"}}), potato_1(2, {}),
    ])  # fmt: skip
    write_lines(output / "sam" / "annotated_instances.jsonl", [])
    write_lines(output / "annotated_instances.jsonl", [potato_1(1, {"preference": {"A": "true"}})])
    rows = potato_folder(output)
    imported = read(rows, "potato", prompt="Which?", rationale="why")
    assert sorted(said_of(imported)) == [
        ("Which?", "one 1", None, "kim@x.org"),
        ("Which?", "tie", 0, "rae"),
        ("Which?", "two 2", None, "kim@x.org"),
    ]
    assert {vote.active_ms for vote in imported.votes} == {588_000}
    assert [vote.rationale for vote in imported.votes].count("shorter") == 1
    place = f"{output}/rae/annotated_instances.jsonl:2"
    assert imported.left_out == [(place, "no answer to preference")]


def test_the_export_of_potato_2_is_read_with_its_items(tmp_path):
    rows = read_rows(write_lines(tmp_path / "annotations.jsonl", [
        {"instance_id": "1", "user_id": "kim", "labels": {"p": {"selection": "B"}}, "spans": {}},
        {"instance_id": "2", "user_id": "rae", "labels": {"p": {"scale_value": "-2"}}, "spans": {}},
    ]))  # fmt: skip
    items = read_rows(write_lines(tmp_path / "data.jsonl", ITEMS))
    imported = read(rows, "potato", items=items)
    assert said_of(imported) == [("q1", "two 1", None, "kim"), ("q2", "one 2", 2, "rae")]


def test_items_that_nobody_has_judged_are_pairs_too(tmp_path):
    rows = rows_of([{"instance_id": "2", "user_id": "kim", "labels": {"p": {"selection": "A"}}}])
    three = {"id": "3", "text": ["x", "y", "z"], "prompt": "q3"}
    items = read_rows(write_lines(tmp_path / "data.jsonl", [*ITEMS, three]))
    with pytest.raises(DataError, match=r"data.jsonl:3 \(item 3\): text has 3 items; expected two"):
        import_rows(rows, "potato", Asked(items=items), WORDS)
    imported = read(rows, "potato", items=items, skip_bad=True)
    assert [comparison.prompt.text for comparison in imported.comparisons] == ["q2", "q1"]
    assert said_of(imported) == [("q2", "one 2", None, "kim")]


def test_items_may_name_their_sides_left_and_right(tmp_path):
    rows = rows_of([{"instance_id": 3, "user_id": "kim", "labels": {"p": {"selection": "A"}}}])
    items = rows_of([{"id": 3, "prompt": "q", "left": "l", "right": "r"}])
    assert said_of(read(rows, "potato", items=items)) == [("q", "l", None, "kim")]


@pytest.mark.parametrize(
    ("row", "items", "message"),
    [
        ({"id": "9", "label_annotations": {"p": {"A": "on"}}, "user": "k"}, None, "--items FILE"),
        ({"id": "9", "label_annotations": {"p": {"A": "on"}}, "user": "k"}, ITEMS, "9 is not in"),
        (potato_1(1, {"p": {"A": "true"}}), ITEMS, "says no user"),
        (potato_1(1, {"p": {"A": "true", "B": "true"}}, user="k"), ITEMS, "2 labels"),
        (potato_1(1, {"p": {"scale_value": "9"}}, user="k"), ITEMS, "not on the scale"),
        (
            potato_1(1, {"p": {"A": "true"}}, user="k", displayed_text="A. x<br>B. y<br>C. z"),
            None,
            "its two texts are not here",
        ),
    ],
)  # fmt: skip
def test_what_potato_rows_lack_is_named(tmp_path, row, items, message):
    rows = read_rows(write_lines(tmp_path / "annotations.jsonl", [row]))
    given = None if items is None else rows_of(items)
    with pytest.raises(DataError, match=message) as caught:
        import_rows(rows, "potato", Asked(items=given, prompt="q"), WORDS)
    assert "annotations.jsonl:1: " in caught.value.message


# What holds for all


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("A", Said("a")),
        ("left", Said("a")),
        ("response_2", Said("b")),
        ("Response B is slightly better", Said("b", 1)),
        ("Left much better", Said("a", 3)),
        ("model-b wins", Said("b")),
        ("No preference", Said("tie", 0)),
        ("Both bad", Said("both_bad")),
    ],
)
def test_words_that_cannot_be_misread_are_known(word, meaning):
    assert WORDS.meaning(word) == meaning


@pytest.mark.parametrize("word", ["1", "2", "neither", "both", "good", "a lot", "C", "", "b or a"])
def test_words_that_could_be_misread_are_asked_for(word):
    with pytest.raises(ValueError, match="says neither which answer is better"):
        WORDS.meaning(word)


@given(st.floats(-5, 5))
def test_a_scale_read_backwards_prefers_the_other_answer_as_much(value):
    words = Words(scale=5)
    there, back = words.meaning(Level(value)), words.meaning(Level(-value))
    assert there.strength == back.strength
    assert {there.choice, back.choice} in ({"a", "b"}, {"tie"})
    assert (there.strength == 0) == (value == 0)


def test_rankings_say_which_answer_is_before_the_other():
    ranks = Ranks((("response_2", 1), ("response_1", 2)))
    assert WORDS.meaning(ranks) == Said("b")
    with pytest.raises(ValueError, match="expected two"):
        WORDS.meaning(Ranks((("a", 1), ("b", 2), ("c", 3))))


@pytest.mark.parametrize("word", ["x", "x=left", "=a", "x=a:4", "x=withdrawn"])
def test_a_choice_that_says_nothing_is_refused(word):
    with pytest.raises(ConfigError, match="expected THEIRS=OURS"):
        parse_choices([word])


def test_a_sign_is_no_hyphen_and_the_two_ends_of_a_scale_stay_apart():
    words = Words(parse_choices(["-1=a:1", "1=b:1", "-3=a:3", "3=b:3", "0=tie"]))
    assert words.meaning("-1") == Said("a", 1)
    assert words.meaning("1") == Said("b", 1)
    assert words.meaning(" -3 ") == Said("a", 3)
    with pytest.raises(ValueError, match="says neither"):
        Words(parse_choices(["1=b"])).meaning("-1")


def test_one_word_cannot_mean_two_things():
    with pytest.raises(ConfigError, match="has another meaning already"):
        parse_choices(["Bot wins=a", "bot  wins.=b"])
    assert parse_choices(["Bot wins=a", "bot wins=a"]) == {"bot wins": Said("a")}


def test_rows_of_pairs_are_no_export_of_a_tool():
    assert format_of(Rows("list", [{"prompt": "q", "a": "x", "b": "y"}])) is None
    assert IMPORTS.names() == ["label-studio", "argilla", "potato"]


def test_an_id_of_a_vote_follows_from_what_was_said_of_which_pair_by_whom(tmp_path):
    def ids(value, user=3, source=None):
        rows = label_studio(tmp_path, task(1, [annotation(1, user, {"selected": value})]))
        return {
            vote.id for vote in import_rows(rows, "label-studio", Asked(source=source), WORDS).votes
        }

    assert ids("left") == ids("left")
    assert len(ids("left") | ids("right") | ids("left", 4) | ids("left", source="mine")) == 4


def test_tasks_that_nobody_has_labelled_are_pairs(tmp_path):
    imported = read(label_studio(tmp_path, task(1, []), task(2, [])), "label-studio")
    assert (len(imported.comparisons), imported.votes) == (2, [])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
EXPORTS = {
    "label-studio": [
        task(1, [annotation(7, 3, {"selected": "left"}), annotation(8, 4, {"selected": "right"})]),
        task(2, [annotation(9, {"id": 3, "email": "k@x.org"}, {"selected": "right"})]),
    ],
    "argilla": ARGILLA,
    "potato": [
        {**potato_1(1, {"p": {"selection": "A"}}), "user": "k"},
        {**potato_1(2, {"p": {"scale_value": "-2"}, "why": {"text_box": "x"}}), "user": "r"},
    ],
}


def places_in(value, here=()):
    """Every place in a JSON value, as the keys that lead to it."""
    yield here
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(child, (*here, key))


def with_(value, place, new):
    """The value with another at one place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = with_(copy[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("name", list(EXPORTS))
@given(data=st.data())
def test_whatever_stands_in_an_export_is_read_left_out_or_refused_by_name(name, data):
    rows = EXPORTS[name]
    place = data.draw(st.sampled_from([p for p in places_in(rows) if len(p) > 1]))
    broken = with_(rows, place, data.draw(ANY_JSON))
    asked = {"question": {"label-studio": "pw", "argilla": "better", "potato": "p"}[name]}
    for skip_bad in (False, True):
        said, imported = None, None
        try:
            imported = import_rows(
                Rows("x.json", broken), name, Asked(prompt="q", skip_bad=skip_bad, **asked), WORDS
            )
        except DataError as error:
            said = error.message
        if imported is None:
            assert "x.json" in said
            continue
        counts = imported.counts
        assert counts["n_rows"] == (
            counts["n_comparisons"] + counts["n_repeated_pairs"] + counts["n_rows_left_out"]
        )
        assert counts["n_judgements"] == (
            counts["n_votes"] + counts["n_repeated_votes"] + counts["n_judgements_left_out"]
        )
        assert all(vote.choice in ("a", "b", "tie", "both_bad", "skip") for vote in imported.votes)
