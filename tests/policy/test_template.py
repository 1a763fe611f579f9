import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Message, Part, Prompt
from prefkit.policy.template import encode_pair, encode_prompt, encode_row, template_messages

# Text without the tiny tokenizer's own markers: "<|end|>" typed by a user is another matter.
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<"), max_size=40)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def user(text):
    return Prompt.make([Message.of("user", text)])


def answer(text):
    return (Message.of("assistant", text),)


@given(asked=texts, said=texts)
def test_a_row_is_the_engines_prompt_and_then_the_answer_up_to_its_end_of_turn(
    tokenizer, asked, said
):
    row = encode_row(tokenizer, user(asked), answer(said))
    assert list(row.ids[: row.n_prompt]) == encode_prompt(tokenizer, user(asked))
    assert row.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.ids[row.n_prompt : -1]) == said
    assert row.n_completion == len(row.ids) - row.n_prompt


def test_only_the_last_assistant_turn_of_a_longer_answer_is_scored(tokenizer):
    turns = (Message.of("assistant", "one"), Message.of("user", "why"), *answer("because"))
    row = encode_row(tokenizer, user("hi"), turns)
    assert tokenizer.decode(row.ids[row.n_prompt :]) == "because<|end|>"
    assert "why" in tokenizer.decode(row.ids[: row.n_prompt])


def test_an_answer_that_would_merge_with_the_prompt_keeps_the_prompts_tokens(tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    # The generation prompt ends in "t", which the tokenizer would merge with a following "he".
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }} t"
        "{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    )
    prompt = user("x")
    asked = encode_prompt(tokenizer, prompt)
    merged = tokenizer("x the sun<|end|>", add_special_tokens=False)["input_ids"]
    assert merged[: len(asked)] != asked, "the template was made to merge"
    row = encode_row(tokenizer, prompt, answer("he sun"))
    assert list(row.ids[: row.n_prompt]) == asked
    assert tokenizer.decode(row.ids[row.n_prompt :]) == "he sun<|end|>"


def test_a_template_that_rewrites_an_answered_prompt_is_refused(tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1].content }}"
    with pytest.raises(ModelError, match="renders the prompt differently"):
        encode_row(tokenizer, user("x"), answer("y"))


def test_a_template_without_an_end_of_turn_gets_the_token_that_engines_stop_at(tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    row = encode_row(tokenizer, user("x"), answer("the sun"))
    assert row.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.ids[row.n_prompt : -1]) == "the sun\n"


@given(lengths=st.tuples(st.integers(1, 30), st.integers(1, 30)), limit=st.integers(8, 60))
def test_truncation_never_leaves_only_one_side_its_end_of_turn(tokenizer, lengths, limit):
    chosen, rejected = (answer("fox " * n) for n in lengths)
    pair = encode_pair(tokenizer, user("the sea"), chosen, rejected, max_length=limit)
    if pair is None:
        assert len(encode_prompt(tokenizer, user("the sea"))) >= limit
        return
    ends = {row.ids[-1] == tokenizer.eos_token_id for row in (pair.chosen, pair.rejected)}
    assert ends == {not pair.truncated}
    assert all(len(row.ids) <= limit for row in (pair.chosen, pair.rejected))
    assert all(row.n_completion >= 1 for row in (pair.chosen, pair.rejected))


def test_a_prompt_that_fills_the_limit_is_refused_by_name(tokenizer):
    prompt = user("fox " * 50)
    with pytest.raises(DataError, match=prompt.id):
        encode_row(tokenizer, prompt, answer("x"), max_length=20)


def test_an_image_part_and_an_unfinished_dialogue_are_refused(tokenizer):
    picture = Message("user", (Part("image", path="a.png"),))
    with pytest.raises(DataError, match="image"):
        template_messages([picture])
    with pytest.raises(DataError, match="assistant"):
        encode_row(tokenizer, user("x"), (Message.of("user", "y"),))


def test_smollm2_prompt_and_row_share_its_default_system_message(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2.path)
    row = encode_row(tokenizer, user("Hello?"), answer("Hi.\n"))
    assert tokenizer.decode(row.ids) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\nHi.\n<|im_end|>"
    )
    assert list(row.ids[: row.n_prompt]) == encode_prompt(tokenizer, user("Hello?"))
    # The chat markers are single tokens, as the model was trained with them.
    assert row.ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") == 1
