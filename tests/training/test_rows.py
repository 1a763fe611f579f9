"""What is refused, what is dropped with a count, and what becomes of tokens and labels."""

import json
import math
from dataclasses import replace

import pytest
from chat_tokenizers import chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prefkit.core.errors import DataError
from prefkit.core.records import Comparison, Completion, Example, Message, Prompt, TrainRow
from prefkit.formats.schema import to_table
from prefkit.training.rows import encode_rows, read_rows
from prefkit.training.votes import RowVote


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def said(text):
    return (Message.of("assistant", text),)


def pair(question="q", chosen="yes", rejected="no", **given):
    example, _ = Example.make(
        Prompt.make([Message.of("user", question)]), said(chosen), said(rejected), **given
    )
    return TrainRow.of(example)


def whole(tokenizer, tree, index=0):
    return tokenizer.decode([*tree.prompt, *tree.branches[index].ids])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"p": 1.5}, "p is 1.5; expected"),
        ({"p": math.nan}, "p is nan"),
        ({"weight": -1.0}, "weight is -1"),
        ({"weight": math.inf}, "weight is inf"),
        ({"margin": math.nan}, "margin is nan"),
        ({"chosen": ()}, "chosen does not end in an assistant message"),
        ({"rejected": (Message.of("user", "x"),)}, "rejected does not end in an assistant"),
        ({"chosen": (Message.of("assistant", "b \ud83d"),)}, "chosen is no valid Unicode"),
        ({"prompt": Prompt("x", (Message.of("user", "\ude00"),))}, "prompt is no valid Unicode"),
        ({"votes": "["}, "votes is not JSON"),
        ({"votes": '[{"choice": "left"}]'}, "a vote's choice is 'left'"),
        (
            {"prompt": Prompt("x", (Message.of("user", "q"),), tools="{")},
            "tools is '{'; expected JSON",
        ),
    ],
)
def test_a_faulty_row_is_refused_by_its_id(pairs, change, what):
    bad = replace(pairs[3], **change)
    with pytest.raises(DataError) as caught:
        read_rows([*pairs[:3], bad], "pair")
    assert bad.id in caught.value.message
    assert what in caught.value.message


def test_tools_that_are_json_but_no_list_of_schemas_are_refused(pairs):
    bad = replace(pairs[0], prompt=replace(pairs[0].prompt, tools='"hammer"'))
    with pytest.raises(DataError, match=r"tools is .* expected a list of JSON schemas"):
        read_rows([bad], "pair")


def test_all_faults_are_counted_and_the_first_are_shown(pairs):
    with pytest.raises(DataError) as caught:
        read_rows([replace(pair, p=-1.0) for pair in pairs], "pair")
    assert len(caught.value.message.splitlines()) == 6
    assert f"and {len(pairs) - 5} more rows" in caught.value.message


def test_a_table_gives_the_same_rows_as_the_list(pairs):
    rows = read_rows(pairs, "pair").rows
    assert read_rows(to_table(pairs, Example), "pair").rows == rows
    assert rows == [TrainRow.of(example) for example in pairs]


def test_a_table_with_holes_names_them(pairs):
    table = to_table(pairs, Example)
    with pytest.raises(DataError):
        read_rows(table.drop_columns(["chosen"]), "pair")
    cells = table.to_pylist()
    cells[4]["p"] = None
    cells[6]["margin"] = math.inf
    with pytest.raises(DataError) as caught:
        read_rows(type(table).from_pylist(cells, schema=table.schema), "pair")
    assert f"row 5 ({pairs[4].id}): p is missing" in caught.value.message
    assert f"row 7 ({pairs[6].id}): margin is inf" in caught.value.message


@pytest.mark.parametrize("count", [(1, "pair"), (3, "pair"), (2, "unpaired"), (1, "ranking")])
def test_a_row_with_too_few_or_too_many_answers_is_refused(count):
    n, target = count
    row = TrainRow("r", Prompt.make([Message.of("user", "q")]), (said("a"),) * n, target)
    with pytest.raises(DataError, match="row r: "):
        read_rows([row], target)


def test_every_row_is_kept_or_dropped_for_a_reason(tokenizer):
    long = "fox " * 200
    rows = [
        pair(),
        pair(chosen="same", rejected="same"),
        pair(chosen=long + "a", rejected=long + "b"),
        pair(question=long),
        pair(weight=0.0),
        pair(p=0.5),
        pair(chosen=" \n", rejected="words"),
    ]
    found = encode_rows(
        tokenizer, rows, max_length=64, hard_labels=True, dropped={"empty prompt": 2}
    )
    assert found.dropped == {
        "empty": 1,
        "empty prompt": 2,
        "identical": 1,
        "no_preference": 1,
        "overlong": 1,
        "token_identical": 1,
        "zero_weight": 1,
    }
    assert found.dropped_ids["overlong"] == (rows[3].id,)
    assert len(found.rows) + sum(found.dropped.values()) == len(rows) + 2
    assert found.n_truncated == 0
    soft = encode_rows(tokenizer, rows, max_length=64)
    assert [row.p for row in soft.rows] == [1.0, 0.5]


def test_answers_that_only_their_tokens_make_equal_are_dropped():
    # This template strips what it is given.
    found = encode_rows(
        chat_tokenizer("gemma"), [pair(chosen="yes", rejected=" yes ")], max_length=64
    )
    assert found.dropped == {"token_identical": 1}


@pytest.mark.parametrize("policy", ["answers", "prompt", "drop"])
def test_overlong_rows_are_cut_or_dropped_and_counted_either_way(tokenizer, policy):
    row = pair(question="fox " * 40, chosen="dog " * 10, rejected="cat")
    found = encode_rows(tokenizer, [row], max_length=40, overlong=policy)
    kept = policy == "prompt"
    assert len(found.rows) == int(kept)
    assert found.n_truncated == int(kept)
    assert found.dropped == ({} if kept else {"overlong": 1})
    answer = pair(chosen="fox dog " * 60)
    found = encode_rows(tokenizer, [answer], max_length=64, overlong=policy)
    assert found.dropped == ({} if policy == "answers" else {"overlong": 1})
    assert all(row.tree.longest <= 64 for row in found.rows)


def test_a_long_prompt_loses_whole_old_turns_first_and_keeps_the_system_turn():
    tokenizer = chat_tokenizer("chatml")
    turns = [Message.of("system", "Be kind.")]
    for n in range(4):
        turns += [Message.of("user", f"fox {n}?"), Message.of("assistant", f"dog {n}.")]
    prompt = Prompt.make([*turns, Message.of("user", "last?")])
    row = replace(pair(), prompt=prompt)
    full = encode_rows(tokenizer, [row], max_length=1000).rows[0].tree
    limit = full.longest - 5
    [found] = encode_rows(tokenizer, [row], max_length=limit, overlong="prompt").rows
    text = tokenizer.decode(found.tree.prompt)
    assert found.tree.longest <= limit
    head = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nfox 1?"
    assert text.startswith(head)
    assert text.endswith("last?<|im_end|>\n<|im_start|>assistant\n")
    assert found.source.prompt == prompt


def test_hard_labels_put_the_likelier_side_first():
    row = replace(pair(), p=0.25, margin=-1.5)
    tokenizer = chat_tokenizer("chatml")
    [hard] = encode_rows(tokenizer, [row], max_length=64, hard_labels=True).rows
    assert (hard.p, hard.margin) == (1.0, 1.5)
    assert "no" in whole(tokenizer, hard.tree)
    assert hard.source.completions == (said("no"), said("yes"))
    [soft] = encode_rows(tokenizer, [row], max_length=64).rows
    assert (soft.p, soft.margin) == (0.25, -1.5)
    assert "yes" in whole(tokenizer, soft.tree)


def test_votes_reach_the_row_from_the_chosen_sides_view():
    votes = json.dumps([{"choice": "a", "error_rate": 0.1}, {"choice": "both_bad"}, {"p_a": 0.75}])
    row = replace(pair(), votes=votes, evidence='{"chosen_slot": "b"}')
    [found] = encode_rows(chat_tokenizer("chatml"), [row], max_length=64).rows
    assert found.votes == (RowVote(0.0, 0.1), RowVote(0.25, None))


def test_the_votes_of_a_row_that_is_turned_are_turned_with_it():
    votes = json.dumps([{"choice": "a", "error_rate": 0.1}, {"choice": "rejected"}])
    row = replace(pair(), p=0.25, votes=votes)
    [turned] = encode_rows(chat_tokenizer("chatml"), [row], max_length=64, hard_labels=True).rows
    assert turned.votes == (RowVote(0.0, 0.1), RowVote(1.0, None))


def test_a_pair_becomes_two_unpaired_answers_a_ranking_or_a_demonstration_with_its_p():
    rows = [pair(p=0.75, weight=2.0), replace(pair("r"), p=0.25), pair("t", p=0.5), pair("u")]
    unpaired = read_rows(rows, "unpaired")
    assert [(r.completions[0][0].text, r.p, r.target) for r in unpaired.rows] == [
        ("yes", 0.75, "unpaired"),
        ("no", 0.25, "unpaired"),
        ("no", 0.75, "unpaired"),
        ("yes", 0.25, "unpaired"),
        ("yes", 0.5, "unpaired"),
        ("no", 0.5, "unpaired"),
        ("yes", 1.0, "unpaired"),
        ("no", 0.0, "unpaired"),
    ]
    assert unpaired.rows[0].weight == 2.0
    assert unpaired.rows[1].id == f"{rows[0].id}-rejected"
    assert unpaired.rows[1].pair == rows[0].id
    ranked = read_rows(rows[:2], "ranking").rows
    assert [[c[0].text for c in r.completions] for r in ranked] == [["yes", "no"], ["no", "yes"]]
    assert [r.p for r in ranked] == [0.75, 0.75]
    shown = read_rows(rows[:2], "demonstration").rows
    assert [(r.completions[0][0].text, r.target, r.p) for r in shown] == [
        ("yes", "demonstration", 0.75),
        ("no", "demonstration", 0.75),
    ]


def test_hard_labels_make_each_answer_of_a_pair_certain_and_drop_a_tie_once():
    rows = read_rows([pair(p=0.75), replace(pair("r"), p=0.25), pair("t", p=0.5)], "unpaired").rows
    tokenizer = chat_tokenizer("chatml")
    hard = encode_rows(tokenizer, rows, max_length=64, hard_labels=True)
    assert [(r.source.completions[0][0].text, r.p) for r in hard.rows] == [
        ("yes", 1.0),
        ("no", 0.0),
        ("no", 1.0),
        ("yes", 0.0),
    ]
    assert hard.dropped == {"no_preference": 1}
    assert hard.n_kept == 2
    soft = encode_rows(tokenizer, rows, max_length=64)
    assert [r.p for r in soft.rows] == [0.75, 0.25, 0.75, 0.25, 0.5, 0.5]


def test_an_unpaired_answer_may_be_probably_desirable():
    row = replace(pair(), completions=(said("yes"),), target="unpaired", p=0.7)
    assert read_rows([row], "unpaired").rows == [row]
    with pytest.raises(DataError, match=r"p is 1.2; expected a probability"):
        read_rows([replace(row, p=1.2)], "unpaired")


def test_pairs_whose_answers_are_rows_of_their_own_still_add_up():
    """Identical and token-identical pairs teach both ways at once; a side may go alone."""
    rows = [
        pair(),
        pair("same", chosen="yes", rejected="yes"),
        pair("stripped", chosen="yes", rejected=" yes "),
        pair("half", chosen="yes", rejected=" "),
        pair("none", chosen="fox " * 90, rejected="dog " * 90),
        pair(),  # the same row again
    ]
    halves = read_rows(rows, "unpaired").rows
    found = encode_rows(chat_tokenizer("gemma"), halves, max_length=40, overlong="drop")
    assert found.dropped == {"identical": 1, "overlong": 1, "token_identical": 1}
    assert found.left_out == {"empty": 1}
    assert [row.id.rpartition("-")[2] for row in found.rows] == [
        "chosen", "rejected", "chosen", "chosen", "rejected"
    ]  # fmt: skip
    assert found.n_kept + sum(found.dropped.values()) == len(rows)
    assert found.dropped_ids["identical"] == tuple(
        f"{rows[1].id}-{side}" for side in ("chosen", "rejected")
    )


def test_the_best_of_a_ranking_is_a_demonstration_and_other_changes_are_refused():
    ranking = {"prompt": "q", "completions": ["b", "a"], "ranks": [2, 1]}
    [row] = read_rows([ranking], "demonstration").rows
    assert row.completions == (said("a"),)
    for target in ("pair", "unpaired"):
        with pytest.raises(DataError, match="ranked lists, and this loss learns from"):
            read_rows([ranking], target)
    with pytest.raises(DataError, match="single answers with a label"):
        read_rows([{"prompt": "q", "completion": "a", "label": False}], "pair")


def test_both_answers_of_a_both_bad_comparison_are_undesirable():
    prompt = Prompt.make([Message.of("user", "q")])
    sides = [Completion.make(prompt.id, said(text), "m") for text in ("x", "y")]
    comparison = Comparison.make(prompt, *sides)
    read = read_rows([pair()], "unpaired", both_bad=[comparison])
    assert sorted(r.completions[0][0].text for r in read.rows if r.p == 0) == ["no", "x", "y"]
    assert len(read_rows([pair()], "pair", both_bad=[comparison]).rows) == 1


def test_rows_that_the_template_refuses_are_named():
    system = Prompt.make([Message.of("system", "x"), Message.of("user", "q")])
    rows = [pair(), *(replace(pair(), id=f"bad{n}", prompt=system) for n in range(7))]
    with pytest.raises(DataError) as caught:
        encode_rows(chat_tokenizer("gemma"), rows, max_length=64)
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("row bad0: ")
    assert "System role not supported" in lines[0]
    assert lines[-1] == "and 2 more rows"


def test_arguments_for_all_rows_give_way_to_a_rows_own():
    tokenizer = chat_tokenizer("qwen3")
    rows = [pair(), replace(pair(), arguments={"enable_thinking": True})]
    read = read_rows(rows, arguments={"enable_thinking": False}).rows
    found = encode_rows(tokenizer, read, max_length=99)
    ends = [tokenizer.decode(row.tree.prompt).endswith("</think>\n\n") for row in found.rows]
    assert ends == [True, False]


@given(st.lists(st.sampled_from(["yes", "no", "fox", "sea"]), min_size=2, max_size=4, unique=True))
def test_the_digest_changes_with_tokens_labels_and_order(answers):
    tokenizer = chat_tokenizer("chatml")
    rows = [pair(chosen=answers[0], rejected=answers[1]), pair("other")]

    def digest(rows, **options):
        return encode_rows(tokenizer, rows, max_length=64, **options).digest()

    first = digest(rows)
    assert digest(list(rows)) == first
    others = [
        digest(rows[::-1]),
        digest([replace(rows[0], p=0.9), rows[1]]),
        digest([replace(rows[0], weight=2.0), rows[1]]),
        digest([replace(rows[0], margin=0.5), rows[1]]),
        digest([replace(rows[0], completions=rows[0].completions[::-1]), rows[1]]),
        digest([replace(rows[0], votes='[{"choice": "a"}]'), rows[1]]),
        digest(rows[:1]),
    ]
    assert len({first, *others}) == 8
