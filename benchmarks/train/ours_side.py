"""prefkit's side of the benchmark: a process of its own, through ``prefkit.train``.

    .venv/bin/python benchmarks/train/ours_side.py JOB.json

Reads the job, trains, writes FOLDER/figures.json (what run.py reads).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Timed:
    """A function and the seconds that its calls took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        value = self.function(*given, **named)
        self.seconds += time.perf_counter() - started
        return value


def main(job: dict[str, Any]) -> None:
    from prefkit.core.heap import one_heap

    one_heap()  # as `prefkit train` does for fp32

    import torch

    import prefkit
    from prefkit.training import LoraSettings, TrainSettings, loop

    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    settings = TrainSettings(
        loss="sigmoid",
        beta=job["beta"],
        lora=LoraSettings(r=job["rank"], alpha=job["alpha"]),
        learning_rate=job["learning_rate"],
        schedule="constant",
        warmup=0.0,
        max_grad_norm=1.0,
        epochs=job["epochs"],
        max_steps=job["steps"],
        batch_size=job["batch_size"],
        order="given",
        tokens_at_once=job["tokens_at_once"],
        activation_checkpointing=job["checkpointing"],
        dtype=job["dtype"],
        device=job["device"],
        checkpoint_every=10_000,
        trackers=[],
        reference_store=job["store"],
    )
    # The pass over the reference comes before the steps: it is timed for itself.
    loop.score_missing = scoring = Timed(loop.score_missing)
    started = time.perf_counter()
    prefkit.train(
        job["model"],
        job["pairs"],
        settings,
        out=folder / "out",
        start_adapter=job["adapter"],
    )
    lines = (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    figures = {
        "losses": [line["loss"] for line in metrics],
        "step_seconds": [line["seconds"] for line in metrics],
        "reference_seconds": scoring.seconds,
        "reference_pairs": len(Path(job["pairs"]).read_text(encoding="utf-8").splitlines()),
        "seconds": time.perf_counter() - started,
        "cuda_peak_bytes": torch.cuda.max_memory_allocated() if job["device"] == "cuda" else None,
    }
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
