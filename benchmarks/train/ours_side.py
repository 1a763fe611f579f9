"""prefkit's side of the benchmark: a process of its own, through ``prefkit.train``.

    .venv/bin/python benchmarks/train/ours_side.py JOB.json

Reads the job, trains, writes FOLDER/figures.json (what run.py reads).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class Clock:
    """A prefkit Progress that keeps when the pass over the reference said how far it was."""

    def __init__(self) -> None:
        self.reference: list[tuple[float, int]] = []

    def __call__(self, what: str, done: int, total: int | None = None, **rest: Any) -> None:
        if "reference" in what:
            self.reference.append((time.perf_counter(), done))

    def rate(self) -> tuple[float, int]:
        """Seconds and rows between the first and the last report: warm-up is left out."""
        if len(self.reference) < 2:
            return 0.0, 0
        (begun, first), (ended, last) = self.reference[0], self.reference[-1]
        return ended - begun, last - first


def main(job: dict[str, Any]) -> None:
    import torch

    import prefkit
    from prefkit.training import LoraSettings, TrainSettings

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
        checkpoint_every=10_000,
        trackers=[],
        reference_store=job["store"],
    )
    clock = Clock()
    started = time.perf_counter()
    prefkit.train(
        job["model"],
        job["pairs"],
        settings,
        out=folder / "out",
        start_adapter=job["adapter"],
        progress=clock,
    )
    lines = (folder / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    metrics = [json.loads(line) for line in lines]
    reference_seconds, reference_pairs = clock.rate()
    figures = {
        "losses": [line["loss"] for line in metrics],
        "step_seconds": [line["seconds"] for line in metrics],
        "reference_seconds": reference_seconds,
        "reference_pairs": reference_pairs,
        "seconds": time.perf_counter() - started,
    }
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
