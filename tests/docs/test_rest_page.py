"""docs/rest.md: its Python runs, in order, against an app with a pair and a vote in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from app_cases import serving, team_of
from doc_pages import blocks_of
from ports import free_port
from store_cases import pairs, vote

from prefkit.annotation.app import build_app
from prefkit.annotation.routes import POLICY
from prefkit.store import VoteStore
from prefkit.store.outbox import KINDS, Outbox

PAGE = Path(__file__).parents[2] / "docs" / "rest.md"


def test_the_python_of_the_page_runs(tmp_path):
    port = free_port()
    code = "\n".join(block.body for block in blocks_of(PAGE) if block.language == "python")
    code += '\nassert is_ours("k", b"{}", "sha256=' + _SIGNED + '")\n'
    code += 'assert not is_ours("k", b"[]", "sha256=' + _SIGNED + '")\n'
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(1))
        store.vote(vote(store.comparisons()[0], "kim", "a", strength=3))
        team = team_of(store, tmp_path, port)
        token = team.token(team.add("kim", "lead"), "read", "write", "admin")
        with serving(build_app(team.parts), port) as address:
            done = subprocess.run(
                [sys.executable, "-c", code.replace("http://127.0.0.1:7860", address)],
                env={**os.environ, "PREFKIT_TOKEN": token},
                capture_output=True,
                text=True,
                timeout=120,
            )
        assert done.returncode == 0, done.stderr
        (hook,) = Outbox(store.database).hooks()
        assert hook.kinds == ("vote", "undo")
    assert "1 pairs are open" in done.stdout
    assert re.search(r"^\d+ [0-9a-f]{32} a True$", done.stdout, re.MULTILINE)


# printf '{}' | openssl dgst -sha256 -hmac k
_SIGNED = "add853b103fbcc936a194f9eb15e29c4ff08af6e47d5d1bca4f20218e31e4fff"


def test_the_table_of_the_page_is_the_list_of_the_app():
    said = set()
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"\| `([A-Z`, ]+) (/api/v1/[\w.]+)` \| (\w+)", line):
            methods, path, scope = found.groups()
            said |= {(method, path, scope) for method in re.findall(r"[A-Z]+", methods)}
    assert said == {
        (method, path.partition("/{")[0], need.scope)
        for (method, path), need in POLICY.items()
        if need.scope is not None
    }


def test_the_kinds_of_the_page_are_those_that_a_hook_may_ask_for():
    (line,) = re.findall(r"Kinds: (.*?)\.", PAGE.read_text())
    assert tuple(re.findall(r"`(\w+)`", line)) == KINDS
