"""What every command prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

from prefkit.cli.output import print_json

INTERRUPTED = """
import sys
from prefkit.cli import main
from prefkit.workspace import Workspace

def interrupt(path):
    raise KeyboardInterrupt

Workspace.open = interrupt
sys.argv = ["prefkit", "status"]
main()
"""


def test_the_json_line_is_one_line_for_every_reader(capsys):
    value = {"answer": "one\u2028two\x85three\ud800"}
    print_json(value)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == value


def test_an_interrupt_says_how_to_go_on():
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted; run the same command again to go on\n"
