"""The page speaks four languages, all of them wholly, and its scripts say nothing of their own."""

from __future__ import annotations

import re

import pytest

from prefkit.annotation.me import Action, Locale
from prefkit_apps.rater_page import LANGUAGES, read_asset, script, translations, words

ENGLISH = words()["en"]
OTHERS = [name for name in LANGUAGES if name != "en"]
# Names, keys and signs that are the same in the other language.
SAME = {
    "fr": {"source", "role_assistant", "version"},
    "es": set(),
    "zh": set(),
}
# Words of English that no other language here has.
TELLING = re.compile(r"\b(the|and|you|your|is|are|not|this|with|of|it|was|press|vote for)\b", re.I)


def holes(text):
    return sorted(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_there_with_the_same_holes(language):
    spoken = words()[language]
    assert spoken.keys() == ENGLISH.keys()
    assert {name: holes(text) for name, text in spoken.items()} == {
        name: holes(text) for name, text in ENGLISH.items()
    }
    assert all(text.strip() for text in spoken.values())


@pytest.mark.parametrize("language", OTHERS)
def test_no_english_is_left(language):
    spoken = words()[language]
    same = {name for name, text in spoken.items() if text == ENGLISH[name]}
    assert same <= SAME[language]
    left = {name: text for name, text in spoken.items() if TELLING.search(text)}
    assert left == {}


def used_in_markup():
    markup = read_asset("rater/page.html")
    return set(re.findall(r'data-t(?:-label)?="(\w+)"', markup))


def used_in_scripts():
    code = script()
    named = set(re.findall(r'\bt\(\s*"(\w+)"', code))
    prefixes = re.findall(r'\bt\(\s*"(\w+_)" \+', code)
    chosen = set(re.findall(r'\bt\([^()"]*\? "(\w+)" : "(\w+)"', code))
    actions = re.findall(r'(?:\b[a-z]+|\d): "(\w+)"', code[code.index("const NAMES") :][:700])
    found = named | set(actions) | {name for pair in chosen for name in pair}
    return found - set(prefixes) | {
        name for name in ENGLISH for prefix in prefixes if name.startswith(prefix)
    }


def test_the_page_uses_every_text_and_no_other():
    said_by_name = {name for name in ENGLISH if name.startswith("aspect_")} | {"left", "right"}
    used = used_in_markup() | used_in_scripts() | said_by_name
    assert used - {"aspect_"} == ENGLISH.keys()


def test_the_markup_without_a_script_is_the_english_text():
    markup = read_asset("rater/page.html")
    for name, text in re.findall(r'data-t="(\w+)"[^>]*>([^<]*)<', markup):
        if text:
            assert text == ENGLISH[name], name
    for text, name in re.findall(r'aria-label="([^"]*)" data-t-label="(\w+)"', markup):
        assert text == ENGLISH[name], name


def test_the_server_takes_the_languages_and_the_actions_of_the_page():
    assert set(Locale.__args__) == set(LANGUAGES)
    table = script()[script().index("const DEFAULT_KEYS") :]
    table = table[: table.index("};")]
    actions = set(re.findall(r"(\w+): \"", table))
    assert actions == set(Action.__args__)


def test_gradio_is_given_the_same_words():
    assert translations().translations_dict == words()
