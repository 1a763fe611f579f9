"""What the pages tell a reader to type works, in the order in which they tell it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import RUN, blocks_of, run_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NOTES = {"plan.md", "architecture.md", "log.md", "demo.md"}  # for builders: nothing to type
RUN_ELSEWHERE = {"stages.md", "rest.md"}  # by test_stages.py and test_rest_page.py
RUNNABLE = [
    page
    for page in PAGES
    if page.name not in NOTES | RUN_ELSEWHERE
    and any(b.language in RUN and not b.skip for b in blocks_of(page))
]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page, tmp_path):
    assert run_page(page, tmp_path) > 0


def test_the_pages_of_each_job_are_run():
    names = {page.name for page in RUNNABLE}
    assert {"README.md", "CONTRIBUTING.md", "curate.md", "iterate.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why(page):
    for block in blocks_of(page):
        assert block.skip is None or len(block.skip) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_examples_of_contributing_are_under_20_lines_each():
    definitions = [b.body for b in blocks_of(ROOT / "CONTRIBUTING.md") if b.language == "python"]
    assert len(definitions) == 3
    for body in definitions:
        assert len(body.strip().splitlines()) < 20


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "images").glob("*.png"):
        assert picture.stat().st_size <= 300_000, picture.name
