"""What ``commented_yaml`` writes reads back as the same settings."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from prefkit.rounds.project import Project
from prefkit.settings import Settings, commented_yaml, parse_settings


class Inner(Settings):
    """A section."""

    text: str = Field("", description="Any text: even # this.")
    names: tuple[str, ...] = Field((), description="Words.")
    number: float | None = Field(None, description="A number or nothing.")


class Outer(Settings):
    """A file."""

    flag: bool = Field(True, description="Yes or no.")
    inner: Inner = Field(default=Inner(text="", names=(), number=None), description="A section.")


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_settings_read_back_as_they_were(text, names, number):
    outer = Outer(flag=False, inner=Inner(text=text, names=tuple(names), number=number))
    assert parse_settings(Outer, yaml.safe_load(commented_yaml(outer))) == outer


def test_the_whole_project_reads_back_as_it_was():
    project = parse_settings(Project, {})
    assert parse_settings(Project, yaml.safe_load(commented_yaml(project))) == project


def test_text_of_several_lines_is_written_as_lines():
    written = commented_yaml(Inner(text="one\n\n- two\n", names=(), number=None))
    assert "text: |\n  one\n\n  - two\n" in written
