"""Training runs that tests start on several processes; also the script that each process runs.

``accelerate launch … rank_runs.py MODEL OUT NAME…`` trains every named case into OUT/NAME.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from prefkit.core.records import Example, Message, Prompt

WORDS = "fox dog sea sun moon quick lazy brown short clear answer sentence".split()  # noqa: SIM905
BASE = {
    "dtype": "float32",
    "device": "cpu",
    "batch_size": 8,
    "tokens_at_once": 160,
    "max_steps": 5,
    "learning_rate": 1e-3,
    "trackers": [],
    "reference_store": "none",
}
LOSSES = {
    "sigmoid": {"loss": "sigmoid"},
    "kto": {"loss": "kto"},
    "aot": {"loss": "aot", "labels": "hard"},
    "mixture": {"loss": {"sigmoid": 1.0, "nll": 0.2}},
}
PARITY = {
    f"{method}-{name}": {"method": method, **loss}
    for method in ("lora", "full")
    for name, loss in LOSSES.items()
}
OTHERS = {
    # More steps than rows fill, so that a rank has nothing to do at times; twice the activations.
    "sgd": {
        "method": "full",
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 3,
        "max_grad_norm": 100,
        "activation_checkpointing": True,
    },
    "held-out": {
        "heldout_share": 0.25,
        "evaluate_every": 2,
        "keep_best": True,
        "patience": 2,
        "n_samples": 2,
        "max_steps": 12,
        "learning_rate": 0.02,
    },
}
# Parameters that do not split evenly, outside the layers, used twice in a pass, moved inside it.
ODD = {
    "head": {"lora": {"r": 3, "alpha": 6, "targets": ["all-linear", "lm_head"]}},
    "narrow": {"lora": {"r": 1, "alpha": 1}},
    "prompt": {"method": "prompt", "n_virtual_tokens": 3},
    "ema": {"reference": "ema", "ema_decay": 0.5, "lora": {"targets": ["all-linear", "lm_head"]}},
}
CASES = PARITY | OTHERS | ODD
# A run that is killed in a launch and goes on in the next; dropout shows the random state.
RESUMED = {
    "method": "lora",
    "lora": {"dropout": 0.2},
    "epochs": 3,
    "max_steps": 8,
    "checkpoint_every": 3,
    "loss": {"sigmoid": 1.0, "nll": 0.2},
}


def example_pairs(n: int = 24) -> list[Example]:
    """Pairs with soft labels, unequal weights and unequal lengths."""
    rng = random.Random(11)

    def words(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    found: list[Example] = []
    for _ in range(n):
        prompt = Prompt.make([Message.of("user", words(2, 12))])
        answers = [[Message.of("assistant", words(1, 14) + end)] for end in "?."]
        p, weight = rng.choice([0.75, 0.9, 1.0]), rng.choice([0.5, 1.0, 2.0])
        found.append(Example.make(prompt, *answers, p=p, weight=weight)[0])
    return found


def train_case(model: str, out: Path, changes: dict[str, object], **options: object):
    """The result of one case, by the library's own entry."""
    from prefkit import train
    from prefkit.training import TrainSettings

    settings = TrainSettings.model_validate({**BASE, **changes})
    return train(model, example_pairs(), settings, out=out, **options)


def launch(*arguments: object, fsdp: bool = False, n: int = 2, timeout: float = 400):
    """What ``accelerate launch`` on ``n`` processes of this machine came to; loopback only."""
    kind = ["--use_fsdp", "--fsdp_version", "2"] if fsdp else ["--multi_gpu"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *kind]
    command += ["--num_processes", str(n), "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", *map(str, arguments)]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def kill_after(step: int):
    """A progress that ends this process without warning once ``step`` is recorded."""

    def report(what: str, done: int, total: int | None = None, note: str = "") -> None:
        if what == "training" and done >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    return report


def full_memory(rank: int):
    """A constraint that meets no memory on ``rank`` in its sixth call."""
    calls = []

    def constraint(logps, rows):
        import torch

        calls.append(len(rows))
        if len(calls) > 5 and int(os.environ["RANK"]) == rank:
            raise torch.OutOfMemoryError("as if the device were full")
        return logps.policy[:, 0] * 0.0

    return constraint


def stopped(model: str, out: Path, name: str) -> None:
    """A run that has to stop; what this rank raised is left in OUT/NAME-RANK.json."""
    from prefkit.core.errors import PrefkitError

    changes: dict[str, object] = {"method": "full", "optimizer": "sgd"}
    options: dict[str, object] = {}
    if name == "not-finite":
        changes["learning_rate"] = 1e30
    else:
        options["constraints"] = [full_memory(1)]
    try:
        train_case(model, out / name, changes, **options)
    except PrefkitError as error:
        told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        (out / f"{name}-{os.environ['RANK']}.json").write_text(json.dumps(told))
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and name == "out-of-memory":
            raise  # the other rank waits inside a layer; the launcher ends it


def main(model: str, out: Path, names: list[str]) -> None:
    """Train the cases, in order."""
    for name in names:
        if name == "killed":
            train_case(model, out / "cut", RESUMED, progress=kill_after(7))
        elif name in ("not-finite", "out-of-memory"):
            stopped(model, out, name)
        else:
            train_case(model, out / name, RESUMED if name == "unbroken" else CASES[name])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
