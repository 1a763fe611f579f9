"""Dialogues to token trees, by the habits of real chat templates."""

from itertools import groupby

import numpy as np
import pytest
from chat_tokenizers import FAMILIES, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Message, Part, Prompt
from prefkit.policy.rendering import template_messages
from prefkit.policy.template import (
    Exchange,
    encode_prompt,
    encode_tree,
    encode_trees,
    goes_on,
    head_length,
    truncate,
)
from prefkit.policy.trees import Branch, Tree

# Text without markup, and not blank at its ends: some templates strip.
words = st.text(st.characters(codec="utf-8", blacklist_characters="<>[]|"), max_size=30).map(
    lambda text: f"a{text}z"
)
WITH_SYSTEM = ("chatml", "llama3", "mistral", "qwen3", "tools", "phi3", "bare")
every_family = pytest.mark.parametrize("family", FAMILIES)


def user(text):
    return Prompt.make([Message.of("user", text)])


def said(text):
    return (Message.of("assistant", text),)


def runs(tokenizer, branch):
    """(scored, text) of each stretch of a branch."""
    pairs = zip(branch.ids.tolist(), branch.scored.tolist(), strict=True)
    return [
        (scored, tokenizer.decode([i for i, _ in group]))
        for scored, group in groupby(pairs, key=lambda pair: pair[1])
    ]


def rows_of(tree):
    return [np.concatenate([tree.prompt, branch.ids]).tolist() for branch in tree.branches]


@every_family
@given(asked=words, one=words, other=words)
def test_a_row_is_the_engines_prompt_then_the_answer_up_to_its_end_of_turn(
    family, asked, one, other
):
    tokenizer, end = chat_tokenizer(family), FAMILIES[family][3]
    tree = encode_tree(tokenizer, user(asked), [said(one), said(other)])
    assert tree.prompt.tolist() == encode_prompt(tokenizer, user(asked))
    for branch, text in zip(tree.branches, (one, other), strict=True):
        [(scored, decoded)] = runs(tokenizer, branch)
        assert scored
        assert decoded.endswith(end)
        assert text in decoded
        assert branch.ids.tolist().count(tokenizer.convert_tokens_to_ids(end)) == 1


@every_family
@given(asked=words, turns=st.lists(words, min_size=3, max_size=3))
def test_every_assistant_turn_is_scored_with_its_end_and_no_user_turn_is(family, asked, turns):
    tokenizer, end = chat_tokenizer(family), FAMILIES[family][3]
    first, why, last = (f"{name}{text}" for name, text in zip("FWL", turns, strict=True))
    answer = (*said(first), Message.of("user", why), *said(last))
    tree = encode_tree(tokenizer, user(asked), [answer])
    one, between, two = runs(tokenizer, tree.branches[0])
    assert (one[0], between[0], two[0]) == (True, False, True)
    assert first in one[1]
    assert why in between[1]
    assert last in two[1]
    assert why not in one[1] + two[1]
    # "bare" has no end of turn: the engines' end-of-text is added to the last turn alone.
    assert one[1].endswith(end) or family == "bare"
    assert two[1].endswith(end)


@every_family
@given(asked=words, answer=words)
def test_the_tokens_of_a_row_spell_the_templates_own_text(family, asked, answer):
    tokenizer, end = chat_tokenizer(family), FAMILIES[family][3]
    tree = encode_tree(tokenizer, user(asked), [said(answer)])
    turns = [*template_messages(user(asked).messages), *template_messages(said(answer))]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    text = tokenizer.decode(rows_of(tree)[0])
    if family == "bare":
        assert text == whole + end
    else:
        assert text == whole[: whole.rindex(end) + len(end)]


@pytest.mark.parametrize("family", WITH_SYSTEM)
def test_branches_share_the_system_turn_wherever_the_template_puts_it(family):
    tokenizer = chat_tokenizer(family)
    prompt = Prompt.make([Message.of("system", "Be kind."), Message.of("user", "the sea?")])
    tree = encode_tree(tokenizer, prompt, [said("blue"), said("grey")])
    assert "Be kind." in tokenizer.decode(tree.prompt)
    assert tree.prompt.tolist() == encode_prompt(tokenizer, prompt)


def test_a_prompt_that_the_template_renders_in_two_ways_goes_to_the_branches_unscored():
    tokenizer = chat_tokenizer("mistral")
    prompt = Prompt.make([Message.of("system", "Be kind."), Message.of("user", "sea?")])
    longer = (*said("blue"), Message.of("user", "sun?"), *said("red"))
    tree = encode_tree(tokenizer, prompt, [longer, said("grey")])
    assert tokenizer.decode(tree.prompt) == "<s>[INST]"
    # The system message has moved to the last user turn of the longer dialogue.
    assert runs(tokenizer, tree.branches[0]) == [
        (False, " sea?[/INST]"),
        (True, " blue</s>"),
        (False, "[INST] Be kind.\n\nsun?[/INST]"),
        (True, " red</s>"),
    ]
    assert runs(tokenizer, tree.branches[1]) == [
        (False, " Be kind.\n\nsea?[/INST]"),
        (True, " grey</s>"),
    ]


def test_thinking_is_scored_in_the_last_answer_and_gone_from_those_before_as_qwen3_has_it():
    tokenizer = chat_tokenizer("qwen3")
    thought = "<think>\nhm\n</think>\n\nblue"
    tree = encode_tree(tokenizer, user("sea?"), [said(thought)])
    assert runs(tokenizer, tree.branches[0]) == [(True, f"{thought}<|im_end|>")]
    answer = (*said(thought), Message.of("user", "why?"), *said("light"))
    tree = encode_tree(tokenizer, user("sea?"), [answer])
    assert runs(tokenizer, tree.branches[0]) == [
        (True, "blue<|im_end|>"),
        (False, "\n<|im_start|>user\nwhy?<|im_end|>\n<|im_start|>assistant\n"),
        (True, "<think>\n\n</think>\n\nlight<|im_end|>"),
    ]


def test_arguments_of_the_template_change_the_generation_prompt():
    tokenizer = chat_tokenizer("qwen3")
    tree = encode_tree(
        tokenizer, user("sea?"), [said("blue")], arguments={"enable_thinking": False}
    )
    assert tokenizer.decode(tree.prompt).endswith("assistant\n<think>\n\n</think>\n\n")
    assert runs(tokenizer, tree.branches[0]) == [(True, "blue<|im_end|>")]


def test_tools_are_asked_their_calls_scored_and_their_results_read():
    tokenizer = chat_tokenizer("tools")
    prompt = Prompt.make([Message.of("user", "rain?")], tools='[{"name": "weather"}]')
    call = Message("assistant", (), tool_calls='[{"name": "weather"}]')
    answer = (call, Message.of("tool", "wet"), *said("yes"))
    tree = encode_tree(tokenizer, prompt, [answer])
    assert 'Tools: [{"name": "weather"}]' in tokenizer.decode(tree.prompt)
    one, between, two = runs(tokenizer, tree.branches[0])
    assert one == (True, '<tool_call>{"name": "weather"}</tool_call><|im_end|>')
    assert not between[0]
    assert "wet" in between[1]
    assert two == (True, "yes<|im_end|>")


def test_a_date_in_a_template_is_the_same_tomorrow():
    dated = chat_tokenizer("chatml", sentencepiece=False)
    dated.chat_template = (
        "\n{% macro today() %}{{ strftime_now('%A, %-d %b %Y') }}{% endmacro %}{{ today() }} "
        + FAMILIES["chatml"][0]
    )
    asked = dated.decode(encode_prompt(dated, user("hi")))
    assert asked.startswith("\nFriday, 26 Jul 2024 <|im_start|>user")


def test_an_answer_that_would_merge_with_the_prompt_keeps_the_prompts_tokens(tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    # The generation prompt ends in "t", which the tokenizer would merge with a following "he".
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }} t"
        "{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    )
    asked = encode_prompt(tokenizer, user("x"))
    merged = tokenizer("x the sun<|end|>", add_special_tokens=False)["input_ids"]
    assert merged[: len(asked)] != asked, "the template was made to merge"
    tree = encode_tree(tokenizer, user("x"), [said("he sun")])
    assert tree.prompt.tolist() == asked
    assert runs(tokenizer, tree.branches[0]) == [(True, "he sun<|end|>")]


def test_a_tokenizer_that_opens_texts_with_a_space_gives_answers_none():
    tokenizer = chat_tokenizer("llama3", sentencepiece=True)
    assert not goes_on(tokenizer)
    assert goes_on(chat_tokenizer("llama3"))
    tree = encode_tree(tokenizer, user("the sea"), [said("the sun"), said("blue")])
    text = "\n\nthe sea<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nthe sun<|eot_id|>"
    whole = f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>{text}"
    assert rows_of(tree)[0] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tree.prompt.tolist() == encode_prompt(tokenizer, user("the sea"))


@given(st.lists(st.tuples(words, words, words), min_size=1, max_size=5))
def test_a_batch_gives_the_trees_of_its_rows_one_by_one(rows):
    tokenizer = chat_tokenizer("gemma")
    exchanges = [Exchange(user(p), (said(a), said(b))) for p, a, b in rows]
    for exchange, tree in zip(exchanges, encode_trees(tokenizer, exchanges), strict=True):
        assert isinstance(tree, Tree)
        alone = encode_tree(tokenizer, exchange.prompt, exchange.completions)
        assert rows_of(tree) == rows_of(alone)
        assert len(tree.prompt) == len(alone.prompt)


def test_a_refused_row_is_an_error_in_its_place_and_the_others_are_trees():
    tokenizer = chat_tokenizer("gemma")
    refused = Prompt.make([Message.of("system", "x"), Message.of("user", "y")])
    exchanges = [Exchange(prompt, (said("z"),)) for prompt in (user("a"), refused, user("b"))]
    one, error, two = encode_trees(tokenizer, exchanges)
    assert isinstance(one, Tree)
    assert isinstance(two, Tree)
    assert isinstance(error, DataError)
    assert refused.id in error.message
    assert "System role not supported" in error.message


def test_a_template_that_loses_the_answer_is_refused(tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = "{{ messages | length }}{{ messages[0].content }}"
    with pytest.raises(ModelError, match="renders the prompt differently"):
        encode_tree(tokenizer, user("x"), [said("y")])


def test_without_a_template_prompt_and_answer_stand_one_after_the_other():
    tokenizer = chat_tokenizer("mistral", template=False)
    tree = encode_tree(tokenizer, user("The sea is"), [said(" blue."), said(" red.")])
    assert tokenizer.decode(tree.prompt) == "<s>The sea is"
    assert tree.prompt.tolist() == encode_prompt(tokenizer, user("The sea is"))
    assert [runs(tokenizer, branch) for branch in tree.branches] == [
        [(True, " blue.</s>")],
        [(True, " red.</s>")],
    ]
    dialogue = Prompt.make([Message.of("user", "a"), *said("b"), Message.of("user", "c")])
    with pytest.raises(DataError, match="no chat template"):
        encode_tree(tokenizer, dialogue, [said("d")])


def test_raw_texts_share_the_tokens_with_which_both_begin():
    for family, start in (("mistral", "<s>"), ("chatml", "")):
        tokenizer = chat_tokenizer(family)
        raw = Prompt.make([])
        tree = encode_tree(tokenizer, raw, [said("the sea is blue"), said("the sea is red")])
        assert tokenizer.decode(tree.prompt).startswith(f"{start}the sea is")
        end = tokenizer.eos_token
        whole = [tokenizer.decode(row) for row in rows_of(tree)]
        assert whole == [f"{start}the sea is blue{end}", f"{start}the sea is red{end}"]
        assert all(branch.scored.all() for branch in tree.branches)
        apart = encode_tree(tokenizer, raw, [said("blue"), said("the sea")])
        assert len(apart.prompt) == 1
        assert tokenizer.decode(apart.branches[0].ids).startswith("blue")


branches = st.lists(st.booleans(), min_size=1, max_size=12).map(
    lambda scored: Branch(
        np.arange(len(scored) + 1, dtype=np.int32), np.array([*scored, True], np.bool_)
    )
)


@given(st.lists(branches, min_size=1, max_size=3), st.integers(1, 6), st.integers(2, 20))
def test_cut_answers_all_end_within_a_turn_and_fit(sides, n_prompt, limit):
    tree = Tree(np.zeros(n_prompt, np.int32), tuple(sides))
    cut = truncate(tree, limit, "answers")
    if tree.longest <= limit:
        assert cut is tree
        return
    if cut is None:
        # No room behind the prompt, or a side with no two scored tokens in a row that fit.
        room = limit - n_prompt
        assert room < 1 or any(
            not (b.scored[:-1] & b.scored[1:])[: min(room, len(b.ids) - 1)].any() for b in sides
        )
        return
    assert cut.longest <= limit
    for before, after in zip(tree.branches, cut.branches, strict=True):
        n = len(after.ids)
        assert 1 <= n < len(before.ids)
        assert after.ids.tolist() == before.ids[:n].tolist()
        # The next token is scored too: the side ends within a turn, not at its end.
        assert after.scored[n - 1]
        assert before.scored[n]


def test_a_cut_prompt_keeps_its_system_turn_and_its_end():
    tokenizer = chat_tokenizer("chatml")
    prompt = Prompt.make([Message.of("system", "Be kind."), Message.of("user", "fox " * 40 + "?")])
    exchange = Exchange(prompt, (said("yes"),))
    tree = encode_tree(tokenizer, prompt, exchange.completions)
    n_head = head_length(tokenizer, exchange, tree)
    head = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    assert tokenizer.decode(tree.prompt[:n_head]) == head
    cut = truncate(tree, tree.longest - 20, "prompt", n_head=n_head)
    assert cut is not None
    assert cut.longest == tree.longest - 20
    assert tokenizer.decode(cut.prompt).startswith(head)
    assert tokenizer.decode(cut.prompt).endswith("?<|im_end|>\n<|im_start|>assistant\n")
    assert cut.branches[0].ids.tolist() == tree.branches[0].ids.tolist()
    assert truncate(tree, n_head + len(tree.branches[0].ids), "prompt", n_head=n_head) is None
    assert truncate(tree, tree.longest - 1, "drop") is None


def test_an_image_part_and_an_unfinished_dialogue_are_refused():
    picture = Message("user", (Part("image", path="a.png"),))
    with pytest.raises(DataError, match="image"):
        template_messages([picture])
    with pytest.raises(DataError, match="assistant"):
        encode_tree(chat_tokenizer("chatml"), user("x"), [(Message.of("user", "y"),)])


def test_smollm2_prompt_and_row_share_its_default_system_message(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path)
    tree = encode_tree(tokenizer, user("Hello?"), [said("Hi.\n")])
    assert tokenizer.decode(rows_of(tree)[0]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\nHi.\n<|im_end|>"
    )
    assert tree.prompt.tolist() == encode_prompt(tokenizer, user("Hello?"))
    # The chat markers are single tokens, as the model was trained with them.
    assert tree.prompt[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 1
