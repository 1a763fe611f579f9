"""`make bench-train`: prefkit beside TRL on one machine, in one run, each in its own process.

    python -m benchmarks.train.run [--quick] [--data FOLDER] [--model MODEL] [--out FOLDER]

First both sides are tuned (micro-batch and activation checkpointing there, tokens at once and
activation checkpointing here), then the best of each are run by turns. What is printed to stderr
is for people; the last line of stdout is one JSON object. benchmarks/README.md has the protocol.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.train import peer
from benchmarks.train.pairs import N_PAIRS, make_pairs, write_pairs
from benchmarks.train.verdict import Phase, Run, Side, best, verdict
from benchmarks.train.watch import Watched, run_watched

HERE = Path(__file__).resolve().parent
RUNS = peer.ROOT / "benchmarks" / ".runs"
SIDES = ("trl", "prefkit")
RANK, ALPHA = 16, 32
BATCH = 8  # pairs an optimiser step
BETAS = {"first": 0.1, "again": 0.2}
TIMEOUT = 900.0  # seconds a process may take


@dataclass(frozen=True, slots=True)
class Config:
    """One way to run a side. size: TRL's micro-batch in pairs, prefkit's tokens at once."""

    side: Side
    size: int
    checkpointing: bool

    @property
    def name(self) -> str:
        what = "micro-batch" if self.side == "trl" else "tokens at once"
        return f"{what} {self.size}" + (", checkpointing" if self.checkpointing else "")


@dataclass(frozen=True, slots=True)
class Protocol:
    """How much is run."""

    n_pairs: int
    tune: tuple[Config, ...]
    tune_steps: int
    steps: int
    repeats: int


FULL = Protocol(
    n_pairs=N_PAIRS,
    tune=(
        *(Config("trl", n, checkpointing=False) for n in (1, 2, 4, 8)),
        # Checkpointing costs time and saves memory: it is worth a try where memory is short.
        *(Config("trl", n, checkpointing=True) for n in (4, 8)),
        *(Config("prefkit", n, checkpointing=False) for n in (256, 512)),
        Config("prefkit", 512, checkpointing=True),
    ),
    tune_steps=2,
    steps=5,
    repeats=3,
)
QUICK = Protocol(
    n_pairs=24,
    tune=(Config("trl", 1, False), Config("trl", 2, False), Config("prefkit", 256, False)),
    tune_steps=2,
    steps=3,
    repeats=1,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything prepared."""

    folder: Path
    model: Path
    python: Path
    protocol: Protocol
    limit_bytes: int
    source: str
    tokens: dict[str, float]
    device: str = "cpu"
    dtype: str = "float32"
    batch_size: int = BATCH

    def run(
        self, config: Config, *, phase: Phase = "first", steps: int, store: str = "none"
    ) -> Run:
        """One process of one side, in a numbered folder of its own."""
        number = len(list(self.folder.glob("run-*")))
        folder = self.folder / f"run-{number:02d}-{config.side}"
        folder.mkdir()
        job = {**self.job(config, phase, steps), "folder": str(folder), "store": store}
        path = folder / "job.json"
        path.write_text(json.dumps(job, indent=2), encoding="utf-8")
        python = self.python if config.side == "trl" else Path(sys.executable)
        script = HERE / ("trl_side.py" if config.side == "trl" else "ours_side.py")
        watched = run_watched(
            [str(python), str(script), str(path)],
            log=folder / "log.txt",
            limit_bytes=self.limit_bytes,
            timeout=TIMEOUT,
            env=self.environment(),
        )
        run = finished(config, phase, watched, folder, self.batch_size)
        say(line(run))
        return run

    def job(self, config: Config, phase: Phase, steps: int) -> dict[str, Any]:
        trl = config.side == "trl"
        return {
            "model": str(self.model),
            "pairs": str(self.folder / "pairs.jsonl"),
            "adapter": str(self.folder / "adapter"),
            "threads": os.cpu_count(),
            "rank": RANK,
            "alpha": ALPHA,
            "beta": BETAS[phase],
            "learning_rate": 2e-5,
            "batch_size": self.batch_size,
            "steps": steps,
            "epochs": 1,
            "device": self.device,
            "dtype": self.dtype,
            "checkpointing": config.checkpointing,
            "micro_batch": config.size if trl else None,
            "precompute": phase == "again",
            "tokens_at_once": None if trl else config.size,
        }

    def environment(self) -> dict[str, str]:
        """The same for both sides; caches of datasets are this run's own."""
        return {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(self.folder / "datasets"),
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
            "PYTHONPATH": "",
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 where a row is void."""
    options = parse(arguments)
    protocol = QUICK if options.quick else FULL
    bench = prepare(options, protocol)
    say(f"{protocol.n_pairs} pairs: {bench.source}; median tokens {bench.tokens}; {bench.folder}")
    tuning = [bench.run(config, steps=protocol.tune_steps) for config in protocol.tune]
    trl, ours = (best([run for run in tuning if run.side == side]) for side in SIDES)
    named = {config.name: config for config in protocol.tune}
    measured = list(by_turns(bench, named[trl], named[ours]))
    result = {
        **verdict(measured, trl=trl, ours=ours),
        **circumstances(bench, options),
        "tuning": [asdict(run) for run in tuning],
        "runs": [asdict(run) for run in measured],
    }
    (bench.folder / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps(result))
    return 0 if result["losses_agree"] and result["second_beta_losses_agree"] else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-train", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="about five minutes, one repeat")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("PREFKIT_REAL_DATA"),
        help="folder with prefs/hh_helpful_base_test.parquet; else text is made up "
        "(default: $PREFKIT_REAL_DATA)",
    )
    parser.add_argument("--model", default="smollm2", help="what prefkit takes for --model")
    parser.add_argument("--memory-limit", type=float, default=18.0, help="GiB a side may hold")
    parser.add_argument("--out", type=Path, help="a new folder for jobs, logs and figures")
    return parser.parse_args(arguments)


def prepare(options: argparse.Namespace, protocol: Protocol) -> Bench:
    """Model, pairs, TRL's environment and the start of the adapter that both sides share."""
    from transformers import AutoTokenizer

    from prefkit.policy.resolve import resolve_model

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = (options.out or RUNS / f"train-{stamp}").resolve()
    folder.mkdir(parents=True)
    python = peer.trl_python()
    model = resolve_model(options.model).path
    real = None if options.data is None else Path(options.data)
    pairs = make_pairs(AutoTokenizer.from_pretrained(model), real, protocol.n_pairs)
    write_pairs(pairs.rows, folder / "pairs.jsonl")
    # A process of its own: this one must stay small beside those that are measured.
    adapter = [sys.executable, HERE / "start_adapter.py", model, folder / "adapter", RANK, ALPHA]
    subprocess.run([str(part) for part in adapter], check=True)
    limit = int(options.memory_limit * 2**30)
    return Bench(folder, model, python, protocol, limit, pairs.source, pairs.tokens)


def by_turns(bench: Bench, trl: Config, ours: Config) -> Iterator[Run]:
    """The measured runs: sides alternate, so that what disturbs the machine disturbs both."""
    steps = bench.protocol.steps
    for repeat in range(bench.protocol.repeats):
        store = str(bench.folder / f"store-{repeat}")
        yield bench.run(trl, steps=steps)
        yield bench.run(ours, steps=steps, store=store)
        # The store that the run before left is what a second β finds.
        yield bench.run(ours, steps=steps, store=store, phase="again")
    yield bench.run(trl, steps=steps, phase="again")


def finished(config: Config, phase: Phase, watched: Watched, folder: Path, batch_size: int) -> Run:
    """The run's figures, or why there are none."""
    figures: dict[str, Any] = {}
    path = folder / "figures.json"
    ended = "out of memory" if watched.ended == "memory" else watched.ended
    if ended is None and (watched.returncode or not path.is_file()):
        ended = f"exit status {watched.returncode}, see {folder.name}/log.txt"
    if ended is None:
        figures = json.loads(path.read_text(encoding="utf-8"))
    return Run(
        side=config.side,
        config=config.name,
        phase=phase,
        batch_size=batch_size,
        losses=tuple(figures.get("losses", ())),
        step_seconds=tuple(figures.get("step_seconds", ())),
        reference_seconds=figures.get("reference_seconds", 0.0),
        reference_pairs=figures.get("reference_pairs", 0),
        # On a GPU what counts is what the process held there.
        peak_bytes=figures.get("cuda_peak_bytes") or watched.peak_bytes,
        seconds=watched.seconds,
        ended=ended,
    )


def circumstances(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Where and on what the figures were taken."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg(),
        "versions": peer.versions(),
        "model": options.model,
        "data": bench.source,
        "median_tokens": bench.tokens,
        "n_pairs": bench.protocol.n_pairs,
        "quick": options.quick,
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    return next(names, platform.machine())


def line(run: Run) -> str:
    """One run for people."""
    name = f"{run.side:8}{run.config:32}{run.phase:6}"
    peak = f"{run.peak_bytes / 1e9:6.2f} GB"
    if not run.finished:
        return f"{name} {peak}  {run.ended} after {run.seconds:.0f} s"
    losses = " ".join(f"{loss:.5f}" for loss in run.losses)
    return f"{name} {peak} {run.pairs_per_second:6.3f} pairs/s  losses {losses}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Ended from outside, it still ends the side that is running (watch.py).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
