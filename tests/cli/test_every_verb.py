"""What every verb has, those of tomorrow included: help with an example, --json, one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from prefkit.cli.app import VERBS, app

runner = CliRunner()
TREE = typer.main.get_command(app)


def leaves() -> list[list[str]]:
    """Every command that does something: ``["loop", "run"]`` counts, ``["loop"]`` does not."""
    found: list[list[str]] = []
    for verb in VERBS:
        command = TREE.get_command(None, verb)  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found += [[verb, name] for name in below] if below else [[verb]]
    return found


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_help_has_an_example_and_json(words):
    shown = runner.invoke(app, [*words, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "--json" in shown.stdout
    assert f"prefkit {words[0]}" in " ".join(shown.stdout.split()).partition("Options:")[0].replace(
        "Usage: prefkit", "", 1
    ) or f"Example: prefkit {' '.join(words)}" in " ".join(shown.stdout.split())


@pytest.mark.parametrize("words", leaves(), ids=" ".join)
def test_every_option_and_argument_explains_itself(words):
    command = TREE
    for word in words:
        command = command.get_command(None, word)  # type: ignore[attr-defined]
    for parameter in command.params:  # type: ignore[attr-defined]
        assert getattr(parameter, "help", ""), f"{' '.join(words)}: {parameter.name}"


def test_help_lists_the_verbs_in_the_order_of_the_job():
    shown = runner.invoke(app, ["--help"]).stdout
    places = [shown.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)


def prefkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefkit", *arguments], capture_output=True, text=True, check=False
    )


def test_a_fault_is_one_message_with_its_mend_and_exit_code_1(tmp_path):
    done = prefkit("status", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "not a prefkit workspace" in done.stderr
    assert "fix: prefkit init" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_verb_is_a_usage_error():
    done = prefkit("anotate")
    assert done.returncode == 2
    assert "anotate" in done.stderr
    assert "Traceback" not in done.stderr
