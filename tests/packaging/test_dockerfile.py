"""The Dockerfile, as far as it can be checked without docker: what it copies, installs and runs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import typer

from prefkit.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {
    "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "CMD", "ENTRYPOINT",
    "STOPSIGNAL",
}  # fmt: skip


def instructions():
    """(instruction, its words) in order, with continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.split("\n") if line.strip()]


def words(name):
    """The words of the one instruction of this name."""
    (found,) = [rest for instruction, rest in instructions() if instruction == name]
    return found


def test_every_instruction_is_one_and_none_mounts_anything():
    # VOLUME /data would look like the storage that check_space asks for.
    assert {name for name, _ in instructions()} <= KNOWN
    assert instructions()[0] == ("FROM", "python:3.12-slim")


def test_all_that_the_wheel_is_built_from_is_sent_and_copied():
    copied = [name for kind, rest in instructions() if kind == "COPY" for name in rest.split()[:-1]]
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignore
    assert {f"!{name}" for name in copied} == {line for line in ignore if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    where = project["tool"]["setuptools"]["packages"]["find"]["where"]
    needed |= {"prefkit", *(folder for folder in where if folder != ".")}
    assert set(copied) == needed


def test_the_extras_it_installs_are_there():
    (installed,) = re.findall(r"pip install --no-cache-dir '\.\[([a-z,]+)\]'", words_of_run())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(installed.split(",")) <= project["project"]["optional-dependencies"].keys()


def words_of_run():
    return "\n".join(rest for kind, rest in instructions() if kind == "RUN")


def test_it_runs_as_a_user_and_not_as_root():
    order = [kind for kind, _ in instructions()]
    assert words("USER") == "prefkit"
    assert order.index("USER") > max(i for i, kind in enumerate(order) if kind == "RUN")


def test_what_it_starts_is_a_command_line_of_prefkit():
    program, *_ = json.loads(words("ENTRYPOINT"))
    verb, *options = json.loads(words("CMD"))
    assert program == "prefkit"
    command = typer.main.get_command(app).get_command(None, verb)  # type: ignore[attr-defined]
    given = command.make_context(verb, list(options)).params
    assert (str(given["path"]), given["host"]) == ("/data/work", "0.0.0.0")
    assert given["port"] == int(words("EXPOSE"))
    assert given["no_browser"]


def test_the_health_check_is_python_that_asks_the_port():
    check = json.loads(words("HEALTHCHECK").partition("CMD ")[2])
    assert check[:2] == ["python", "-c"]
    compile(check[2], "healthcheck", "exec")
    assert f"http://127.0.0.1:{words('EXPOSE')}/login" in check[2]
