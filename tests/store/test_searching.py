"""Search finds text wherever a person wrote or will look for it, on both databases."""

from __future__ import annotations

import uuid

import pytest
from lease_cases import Desk, plan
from store_cases import pair, pairs, vote

from prefkit.core.records import Comparison, Completion, Message, Prompt
from prefkit.store import searching
from prefkit.store.searching import search


def found(store, text, **values):
    return [(hit.comparison_id, hit.places) for hit in search(store.database, text, **values).hits]


@pytest.mark.parametrize(
    "text",
    [
        "50% off",
        "snake_case",
        "a\\b",
        'say "so"',
        "two\nlines",
        "wow!",
        "naïve",
        "数学",
        "🙂",
        "C:\\n",
    ],
)
def test_every_character_is_looked_for_as_it_stands(store, text):
    right, wrong = (
        pair(f"before {text} after"),
        pair("50 off snakeXcase ab so line break wow naive"),
    )
    store.add([right, wrong])
    assert found(store, text) == [(right.id, ("prompt",))]


@pytest.mark.parametrize(
    ("there", "asked"), [("Émile", "émile"), ("émile", "ÉMILE"), ("QUITE", "quite")]
)
def test_case_does_not_matter(store, there, asked):
    comparison = pair(f"who is {there}?")
    store.add([comparison, pair("nobody")])
    assert found(store, asked) == [(comparison.id, ("prompt",))]


def test_names_of_fields_are_no_text(store):
    store.add(pairs(2))
    for word in ("parts", "kind", "messages", "prompt_id", "assistant"):
        assert found(store, word) == []


def test_all_places_are_searched(store):
    prompt = Prompt.make([Message.of("user", "capital?")], tags={"topic": "geography"})
    answers = [
        Completion.make(prompt.id, [Message.of("assistant", text)], model)
        for text, model in (("Paris", "small-1"), ("Lyon", "large-2"))
    ]
    whole = Comparison.make(prompt, *answers, origin="pilot")
    store.add([whole, pair("other")], k=2)
    place = {whole.a.text: "answer a", whole.b.text: "answer b"}
    expected = {
        "capital": "prompt",
        "Paris": place["Paris"],
        "Lyon": place["Lyon"],
        "geography": "tag",
        "large-2": "model",
        "pilot": "origin",
        whole.id: "id",
    }
    for word, where in expected.items():
        assert found(store, word) == [(whole.id, (where,))], word


def test_words_of_raters_and_notes_of_flags_are_searched(store):
    (comparison, _) = new = [pair("one"), pair("two")]
    store.add(new, k=1)
    desk = Desk(store.leases(), plan())
    lease = desk.next("kim").held[0]
    desk.leases.flag("kim", str(uuid.uuid4()), lease.task.id, on=True, note="seen before").result(9)
    stored = desk.vote("kim", lease, "a", rationale="invents a date", edit="a better text").vote
    at = lease.task.comparison_id
    assert found(store, "INVENTS") == [(at, ("rationale",))]
    assert found(store, "better text") == [(at, ("edit",))]
    assert found(store, "seen before") == [(at, ("note",))]
    assert found(store, stored.id) == [(at, ("vote id",))]
    assert comparison.id in {new[0].id, at}


def test_people_are_found_by_name_and_id_on_the_first_page(store):
    kim = store.rater_id("Kim Öz")
    store.rater_id("Lee")
    assert search(store.database, "kim").raters == ((kim, "Kim Öz"),)
    assert search(store.database, kim).raters == ((kim, "Kim Öz"),)
    assert search(store.database, "kim", before=5).raters == ()


def test_pages_meet_every_hit_once_newest_first(store, monkeypatch):
    monkeypatch.setattr(searching, "_STRETCH", 7)
    new = [pair(f"needle {n}" if n % 3 else f"hay {n}") for n in range(60)]
    store.add(new)
    wanted = [c.id for n, c in enumerate(new) if n % 3][::-1]
    met, before = [], None
    while True:
        page = search(store.database, "needle", before=before, limit=9)
        met += [hit.comparison_id for hit in page.hits]
        if page.next is None:
            break
        before = page.next
    assert met == wanted


def test_when_the_time_is_up_the_answer_says_where_to_go_on(store, monkeypatch):
    monkeypatch.setattr(searching, "_STRETCH", 5)
    new = [pair("the oldest"), *pairs(12)]
    store.add(new)
    page = search(store.database, "the oldest", seconds=-1)
    assert (page.hits, page.next is not None) == ((), True)
    while page.next is not None:
        page = search(store.database, "the oldest", before=page.next, seconds=-1)
    assert [hit.comparison_id for hit in page.hits] == [new[0].id]


def test_the_excerpt_is_what_stands_around(store):
    store.add([pair("x" * 500 + " the needle is here " + "y" * 500)])
    (hit,) = search(store.database, "needle").hits
    assert hit.excerpt.startswith("…xxx")
    assert "the needle is here" in hit.excerpt
    assert len(hit.excerpt) < 200


def test_what_no_database_takes_is_looked_for_too(store):
    odd = pair("before \0 and \ud800 after")
    store.add([odd, pair("plain")])
    for text in ("before \0", "\ud800 after"):
        assert found(store, text) == [(odd.id, ("prompt",))]
    assert search(store.database, "\0").raters == ()


def test_nothing_is_found_by_nothing(store):
    store.add(pairs(1))
    for text in ("", "   "):
        assert search(store.database, text) == searching.Found((), (), None)


def test_a_vote_of_a_task_is_found_by_its_id(store):
    (comparison,) = pairs(1)
    store.add([comparison])
    cast = vote(comparison, "kim")
    store.add_votes([cast])
    assert found(store, cast.id) == [(comparison.id, ("vote id",))]
