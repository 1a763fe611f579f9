"""Every finding is made of a row that shows it and is silent on rows that do not."""

from dataclasses import replace

import pytest
from chat_tokenizers import CHATML, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.records import Example, Message, Prompt, TrainRow
from prefkit.training.inspection import FINDINGS, inspect_rows, pieces


def said(text):
    return (Message.of("assistant", text),)


def pair(question="q", chosen="yes", rejected="no", **given):
    example, _ = Example.make(
        Prompt.make([Message.of("user", question)]), said(chosen), said(rejected), **given
    )
    return TrainRow.of(example)


def with_template(family, template):
    """The tokenizer of a family with a template of one's own."""
    known = chat_tokenizer(family)
    return type(known)(
        tokenizer_object=known.backend_tokenizer,
        bos_token=known.bos_token,
        eos_token=known.eos_token,
        chat_template=template,
    )


# A generation prompt that ends in "t" merges with an answer that begins with "he".
MERGES = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %} t{% endif %}{% endfor %}"
# An answered dialogue says how long it is.
REWRITES = "{{ messages | length }}" + CHATML
# Only answers of one word are closed.
ONE_SIDED = (
    "{% for m in messages %}{{ m.content }}{% if ' ' not in m.content %}<|im_end|>{% else %}.!"
    "{% endif %}{% endfor %}"
)
long = "fox " * 100
ODD = {
    "boundary_merge": (with_template("chatml", MERGES), pair(chosen="he sun"), 99),
    "prompt_differs": (with_template("chatml", REWRITES), pair(), 99),
    "double_bos": (chat_tokenizer("mistral", template=False), pair("<s>q"), 99),
    "double_end": (chat_tokenizer("chatml"), pair(chosen="yes<|im_end|>no"), 99),
    "identical": (chat_tokenizer("chatml"), pair(chosen="no"), 99),
    "token_identical": (chat_tokenizer("gemma"), pair(chosen=" no"), 99),
    "empty": (chat_tokenizer("chatml"), pair(chosen=""), 99),
    "overlong": (chat_tokenizer("chatml"), pair(long), 40),
    "zero_weight": (chat_tokenizer("chatml"), pair(weight=0.0), 99),
    "truncated": (chat_tokenizer("chatml"), pair(chosen=long), 40),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_row_that_shows_it_is_listed_by_its_id_and_one_that_does_not_is_not(kind):
    tokenizer, odd, limit = ODD[kind]
    plain = pair("other")
    found = inspect_rows(tokenizer, [plain, odd], max_length=limit)
    ids = found.findings[kind]
    assert odd.id in ids
    # A template that rewrites dialogues does so in every row.
    assert (plain.id in ids) == (kind == "prompt_differs")


def test_an_answer_that_alone_loses_its_end_is_listed():
    tokenizer = with_template("chatml", ONE_SIDED)
    tokenizer.eos_token = None
    odd = pair(chosen="two words")
    found = inspect_rows(tokenizer, [odd, pair("other")], max_length=99)
    assert found.findings["end_on_one_side"] == (odd.id,)


def test_the_same_row_twice_is_listed_once():
    found = inspect_rows(chat_tokenizer("chatml"), [pair(), pair(), pair("r")], max_length=99)
    assert found.findings == {"repeated": (pair().id,)}


def test_the_same_row_twice_is_listed_under_both_names_that_the_data_give_it():
    rows = [replace(pair(), id="one"), replace(pair(), id="two"), pair("r")]
    found = inspect_rows(chat_tokenizer("chatml"), rows, max_length=99)
    assert found.findings == {"repeated": ("one", "two")}


def test_every_finding_has_a_row_here():
    # no_preference is dropped with hard labels only, and reading counts it.
    elsewhere = {"end_on_one_side", "repeated", "no_preference"}
    assert set(ODD) | elsewhere == set(FINDINGS)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=12))
def test_length_correlation_is_the_same_from_either_side_and_its_sign_turns(sizes):
    tokenizer = chat_tokenizer("chatml")
    rows = [
        replace(pair(f"q{i}", "fox " * a + "x", "fox " * b + "y"), p=0.8)
        for i, (a, b) in enumerate(sizes)
    ]
    swapped = [replace(row, completions=row.completions[::-1], p=1 - row.p) for row in rows]
    turned = [replace(row, p=1 - row.p) for row in rows]
    one, other, against = (
        inspect_rows(tokenizer, each, max_length=999).length_correlation
        for each in (rows, swapped, turned)
    )
    if one is None:
        assert all(a == b for a, b in sizes)
        return
    assert other == pytest.approx(one)
    assert against == pytest.approx(-one)
    assert -1.0001 <= one <= 1.0001


def test_labels_that_follow_length_alone_correlate_fully():
    # Gaps of 4 and −4 tokens with p = 0.9 and 0.1: 2p − 1 is proportional to the gap.
    tokenizer = chat_tokenizer("chatml")
    longer = pair(chosen="fox fox fox fox fox", rejected="fox", p=0.9)
    shorter = replace(longer, completions=longer.completions[::-1], p=0.1)
    found = inspect_rows(tokenizer, [longer, shorter], max_length=99)
    assert found.length_correlation == pytest.approx(1)
    assert found.longer_wins == 1


def test_p_is_counted_in_bins_that_hold_their_upper_end():
    rows = [pair(f"q{p}", p=p) for p in (0.5, 0.6, 0.61, 0.99, 1.0)]
    found = inspect_rows(chat_tokenizer("chatml"), rows, max_length=99)
    assert found.p == {
        "0.5 (tie)": 1,
        "0.5 to 0.6": 1,
        "0.6 to 0.7": 1,
        "0.9 to 1": 1,
        "1 (certain)": 1,
    }


def test_pieces_spell_the_row_and_say_what_is_trained_on():
    tokenizer = chat_tokenizer("chatml")
    answer = (*said("yes"), Message.of("user", "why"), *said("so"))
    row = replace(pair(), completions=(answer, said("no")))
    [encoded] = inspect_rows(tokenizer, [row], max_length=99).rows.rows
    prompt, answers = pieces(tokenizer, encoded.tree)
    assert prompt.text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert [(p.text, p.how) for p in answers[0]] == [
        ("yes<|im_end|>", "trained"),
        ("\n<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n", "read"),
        ("so<|im_end|>", "trained"),
    ]
    assert [(p.text, p.how) for p in answers[1]] == [("no<|im_end|>", "trained")]
