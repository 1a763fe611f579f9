"""prefkit beside tuned TRL on one GPU: shapes of 0.6B and 8B, lengths like three data sets.

    python -m benchmarks.train.gpu [--shapes 0.6B 8B] [--regimes hh ultrafeedback helpsteer]
                                   [--trl-python PATH]

Where there is no GPU it says so and measures nothing. Weights are random (shapes.py). TRL is tuned
over micro-batch and activation checkpointing, prefkit over tokens at once and the same; then the
best of each by turns, and the ladder of gains. --trl-python names an interpreter that has TRL
1.16.0, for machines without a network; else its environment is built. The last line of stdout is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.train import peer
from benchmarks.train.pairs import write_pairs
from benchmarks.train.run import ALPHA, HERE, RANK, RUNS, SIDES, Bench, Config, Protocol, by_turns
from benchmarks.train.run import circumstances as where
from benchmarks.train.shapes import REGIMES, SHAPES, made_up_pairs
from benchmarks.train.verdict import best, verdict

BATCH = 32  # pairs an optimiser step
STEPS, WARM_UP = 12, 2
ALL = Protocol(
    n_pairs=BATCH * STEPS,
    tune=(
        *(
            Config("trl", n, checkpointing)
            for n in (4, 8, 16, 32)
            for checkpointing in (True, False)
        ),
        *(
            Config("prefkit", n, checkpointing)
            for n in (8192, 16_384, 32_768)
            for checkpointing in (True, False)
        ),
    ),
    tune_steps=4,
    steps=STEPS,
    repeats=3,
)
TRIAL = Protocol(
    n_pairs=8,
    tune=(Config("trl", 2, False), Config("prefkit", 1024, False)),
    tune_steps=2,
    steps=2,
    repeats=1,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Every shape with every regime; 0 also where there is no GPU, which the JSON says."""
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        why = f"PyTorch {torch.__version__} sees no CUDA device on this machine"
        say(f"nothing measured: {why}")
        print(json.dumps({"measured": False, "why": why}))
        return 0
    root = (options.out or RUNS / f"gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}").resolve()
    python = Path(options.trl_python) if options.trl_python else peer.trl_python()
    results = []
    for shape in options.shapes:
        model = root / f"model-{shape}"
        command = [sys.executable, str(HERE / "shapes.py"), shape, str(model)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        adapter = root / f"adapter-{shape}"
        start(model, adapter)
        for regime in options.regimes:
            results.append(one(options, root / f"{shape}-{regime}", python, shape, regime))
            say(json.dumps({k: v for k, v in results[-1].items() if k not in ("runs", "tuning")}))
    (root / "result.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps({"measured": True, "device": device_name(options), "results": results}))
    return 0


def one(
    options: argparse.Namespace, folder: Path, python: Path, shape: str, regime: str
) -> dict[str, Any]:
    """A shape and a regime: tuning, both sides by turns, the ladder."""
    protocol = ALL if options.device == "cuda" else TRIAL
    batch = BATCH if options.device == "cuda" else 4
    folder.mkdir(parents=True)
    rows = made_up_pairs(regime, protocol.n_pairs, SHAPES[shape]["vocab_size"])
    write_pairs(rows, folder / "pairs.jsonl")
    (folder / "adapter").symlink_to(folder.parent / f"adapter-{shape}")
    bench = Bench(
        folder=folder,
        model=folder.parent / f"model-{shape}",
        python=python,
        protocol=protocol,
        limit_bytes=int(options.memory_limit * 2**30),
        source=f"random words, lengths like {regime}",
        tokens={name: n_words(rows, name) for name in ("prompt", "chosen", "rejected")},
        device=options.device,
        dtype="bfloat16" if options.device == "cuda" else "float32",
        batch_size=batch,
    )
    tuning = [bench.run(config, steps=protocol.tune_steps) for config in protocol.tune]
    trl, ours = (best([run for run in tuning if run.side == side]) for side in SIDES)
    named = {config.name: config for config in protocol.tune}
    runs = list(by_turns(bench, named[trl], named[ours]))
    judged = verdict(runs, trl=trl, ours=ours)
    equivalent = 2 * bench.tokens["prompt"] + bench.tokens["chosen"] + bench.tokens["rejected"]
    return {
        "shape": shape,
        "regime": regime,
        **judged,
        "trl_equivalent_tokens_per_pair": equivalent,
        **where(bench, options),
        "ladder": ladder(bench, named[trl], named[ours]),
        "tuning": [asdict(run) for run in tuning],
        "runs": [asdict(run) for run in runs],
    }


def ladder(bench: Bench, trl: Config, ours: Config) -> list[dict[str, Any]]:
    """The rungs with the micro-batch that suits TRL and the tokens at once that suit prefkit."""
    job = {
        **bench.job(ours, "first", bench.protocol.steps),
        "micro_batch": trl.size,
        "warm_up": min(WARM_UP, bench.protocol.steps - 1),
    }
    path = bench.folder / "ladder.json"
    path.write_text(json.dumps(job, indent=2), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(HERE / "ladder.py"), str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**bench.environment(), "PYTHONPATH": str(peer.ROOT)},
    )
    if done.returncode:
        return [{"ended": done.stderr[-2000:]}]
    return json.loads(done.stdout.splitlines()[-1])


def start(model: Path, adapter: Path) -> None:
    """The start of the adapter that both sides share."""
    command = [sys.executable, HERE / "start_adapter.py", model, adapter, RANK, ALPHA]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def n_words(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Mean tokens of a column: a word is a token."""
    return sum(len(row[name][0]["content"].split()) for row in rows) / len(rows)


def device_name(options: argparse.Namespace) -> str:
    return torch.cuda.get_device_name() if options.device == "cuda" else "cpu"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["0.6B", "8B"], choices=sorted(SHAPES))
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES), choices=sorted(REGIMES))
    parser.add_argument("--trl-python", help="an interpreter that has TRL 1.16.0")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a trial")
    parser.add_argument("--memory-limit", type=float, default=110.0, help="GiB of host memory")
    parser.add_argument("--out", type=Path, help="a new folder for models, jobs and figures")
    options = parser.parse_args(arguments)
    options.model, options.quick = "random weights", options.device == "cpu"
    return options


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Ended from outside, it still ends the side that is running (watch.py).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
