"""A comparison as a rater reads it: what is shared, what is folded, which medium is which."""

from __future__ import annotations

import re

from store_cases import pair

from prefkit.annotation.rendered import Rendered, draw, media_parts
from prefkit.core.records import Comparison, Completion, Message, Part, Prompt


def said(*turns):
    return [Message.of(role, text) for role, text in turns]


def comparison(asked, one, other):
    prompt = Prompt.make(asked)
    return Comparison.make(
        prompt, Completion.make(prompt.id, one, "m1"), Completion.make(prompt.id, other, "m2")
    )


def raw(turns):
    return [turn["raw"] for turn in turns]


def test_turns_that_lead_both_answers_belong_to_the_question():
    shared = said(("assistant", "hello"), ("user", "and then?"))
    drawn = draw(
        comparison(
            said(("system", "be kind"), ("user", "hi")),
            [*shared, *said(("assistant", "one"))],
            [*shared, *said(("assistant", "two"))],
        )
    )
    assert raw(drawn.prompt) == ["be kind", "hi", "hello", "and then?"]
    assert drawn.fold == 3
    assert sorted(raw(drawn.sides["a"]) + raw(drawn.sides["b"])) == ["one", "two"]


def test_each_answer_keeps_its_last_turn_where_one_is_the_start_of_the_other():
    drawn = draw(
        comparison(
            said(("user", "hi")),
            said(("assistant", "same")),
            said(("assistant", "same"), ("assistant", "more")),
        )
    )
    assert sorted([raw(drawn.sides["a"]), raw(drawn.sides["b"])]) == [["same"], ["same", "more"]]


def test_one_question_is_not_folded_and_a_system_prompt_is():
    assert draw(pair("hi")).fold == 0
    asked = said(("system", "be kind"), ("user", "hi"), ("tool", "42"))
    assert draw(comparison(asked, said(("assistant", "1")), said(("assistant", "2")))).fold == 1


def test_raw_text_is_what_was_written():
    (turn,) = draw(pair("**bold** $x$ <b>")).prompt
    assert turn["raw"] == "**bold** $x$ <b>"
    assert "<strong>bold</strong>" in turn["html"]


def media_numbers(turns):
    return [int(n) for turn in turns for n in re.findall(r'data-media="(\d+)"', turn["html"])]


def test_each_figure_names_its_own_file():
    def picture(role, *paths):
        return Message(role, tuple(Part("image", path=path) for path in paths))

    shared = picture("assistant", "s.png")
    found = comparison(
        [picture("user", "q1.png", "q2.png")],
        [shared, picture("assistant", "one.png")],
        [shared, picture("assistant", "two.png", "three.png")],
    )
    drawn, parts = draw(found), media_parts(found)
    assert [parts[n].path for n in media_numbers(drawn.prompt)] == ["q1.png", "q2.png", "s.png"]
    for slot, completion in (("a", found.a), ("b", found.b)):
        wanted = [part.path for part in completion.messages[-1].parts]
        assert [parts[n].path for n in media_numbers(drawn.sides[slot])] == wanted


def test_media_of_elsewhere_are_noted_and_not_asked_for():
    message = Message(
        "user",
        (Part("image", path="http://evil.example/x.png"), Part("image", path="data:image/png,x")),
    )
    drawn = draw(comparison([message], said(("assistant", "1")), said(("assistant", "2"))))
    assert media_numbers(drawn.prompt) == []
    assert "evil.example" in drawn.prompt[0]["html"]
    assert "<img" not in drawn.prompt[0]["html"]


def test_a_comparison_is_drawn_once():
    asked = []

    def read(comparison_id):
        asked.append(comparison_id)
        return pair("hi")

    rendered = Rendered(read)
    assert rendered.of("x") is rendered.of("x")
    assert asked == ["x"]
