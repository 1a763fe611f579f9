"""What the tests of the verbs share."""

import sys

import pytest

from prefkit.cli.app import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a verb in this process; its exit code, stdout and stderr."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["prefkit", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return ended.value.code or 0, shown.out, shown.err

    return call
