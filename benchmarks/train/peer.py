"""The environment of the peer: TRL beside the very versions that prefkit runs on.

A separate virtual environment, so that TRL is measured as its users have it and nothing of it is
ever imported into prefkit's. torch, transformers, peft, accelerate and datasets are pinned to the
versions of the calling environment: what is compared are the trainers, not the libraries under
them. Built once a set of versions; a killed build starts again.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / ".peers"
TRL = "1.16.0"
ALIKE = ("torch", "transformers", "peft", "accelerate", "datasets", "numpy", "safetensors")


def versions() -> dict[str, str]:
    """What both sides run on: name to version, with Python and TRL."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"python": python, "trl": TRL, **{name: version(name) for name in ALIKE}}


def trl_python() -> Path:
    """The interpreter of an environment that holds TRL, built now if it is not there."""
    wanted = " ".join(f"{name}=={number}" for name, number in versions().items())
    folder = PEERS / f"trl-{TRL}"
    stamp = folder / ".built"
    python = folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and python.is_file():
        return python
    sys.stderr.write(f"building the environment of TRL {TRL} in {folder.relative_to(ROOT)}\n")
    _build(folder)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _build(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    import bootstrap

    # Where a CPU build of PyTorch comes from on this machine is bootstrap's knowledge; it only has
    # to know that another environment than .venv is meant.
    bootstrap.VENV = folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.make_environment(interrupted=True)
    torch = version("torch").partition("+")[0]
    bootstrap.install_torch(f"torch=={torch}", bootstrap.has_nvidia_gpu())
    pinned = [f"{name}=={version(name)}" for name in ALIKE if name != "torch"]
    bootstrap.pip("install", f"trl=={TRL}", *pinned)


if __name__ == "__main__":
    print(trl_python())
