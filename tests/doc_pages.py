"""A Markdown page as a list of blocks to run: the convention that CONTRIBUTING.md states."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?:<!-- *(?P<word>not run|file|instead): *(?P<say>.*?) *-->\n)?"
    r"```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("python", "bash", "console")


@dataclass(frozen=True)
class Block:
    """One fenced block. file: the name it is written to. skip: why it is not run. instead: what
    is run in its place, such as a command that would otherwise serve until Ctrl-C."""

    line: int
    language: str
    body: str
    file: str | None
    skip: str | None
    instead: str | None

    def program(self) -> tuple[list[str], str]:
        """The command that runs the block, and what it reads on stdin."""
        if self.language == "python" and not self.instead:
            return [sys.executable, "-W", "error:::prefkit", "-"], self.body
        lines = [line[2:] for line in self.body.splitlines() if line.startswith("$ ")]
        typed = "\n".join(lines) if self.language == "console" else self.body
        return ["bash", "-euo", "pipefail"], self.instead or typed


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in FENCE.finditer(text):
        word, say = match["word"], match["say"]
        found.append(
            Block(
                text.count("\n", 0, match.start("language")) + 1,
                match["language"],
                match["body"],
                say if word == "file" else None,
                say if word == "not run" else None,
                say if word == "instead" else None,
            )
        )
    return found


def run_page(page: Path, folder: Path, *, model: str | None = None) -> int:
    """Write a page's files to ``folder`` and run its blocks in order; how many were run.

    model: a model to run in the place of smollm2. AssertionError, with page and line, for a block
    that fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    n_run = 0
    for block in blocks_of(page):
        if block.file:
            (folder / block.file).write_text(block.body, encoding="utf-8")
    for block in blocks_of(page):
        if block.file or block.skip or block.language not in RUN:
            continue
        program, typed = block.program()
        typed = typed if model is None else typed.replace("smollm2", shlex.quote(model))
        done = subprocess.run(
            program, input=typed, cwd=folder, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = f"{done.stdout}\n{done.stderr}"[-4000:]
        assert done.returncode == 0, f"{page.name}:{block.line}: exit {done.returncode}\n{said}"
        n_run += 1
    return n_run
