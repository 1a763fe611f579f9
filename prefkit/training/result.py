"""What a training run says of itself: a line of metrics a step, a result, a manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefkit.core.files import read_json, write_json, write_text
from prefkit.policy.load import adapter_digest
from prefkit.training.plan import Plan
from prefkit.training.rows import PairRow

MANIFEST = "train.json"
METRICS = "metrics.jsonl"
ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run came to.

    first_loss, last_loss: of the first and last step, means by weight. ln2_gap: |first loss −
    ln 2|, None where the start is not the reference. reward_accuracy: part of the pairs of the
    last epoch, as they were trained on, with p ≠ 0.5 whose log-ratio agrees with p (a zero counts
    half); heldout_accuracy: the same of the held-out pairs at the end; None without such pairs.
    resumed_from: the step a killed run went on from, else None. seconds: of this process.
    """

    adapter: Path
    run: str
    adapter_digest: str
    model_digest: str
    steps: int
    n_rows: int
    dropped: dict[str, int]
    n_truncated: int
    first_loss: float
    last_loss: float
    ln2_gap: float | None
    reward_accuracy: float | None
    heldout_accuracy: float | None
    n_heldout: int
    tokens_per_second: float | None
    seconds: float
    resumed_from: int | None

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {**asdict(self), "adapter": str(self.adapter)}


def finished(plan: Plan) -> TrainResult | None:
    """The result of an earlier run of exactly this plan in ``plan.out``, None if there is none."""
    manifest, adapter = plan.out / MANIFEST, plan.out / ADAPTER
    if not manifest.is_file() or not adapter.is_dir():
        return None
    stored = read_json(manifest)
    if stored.get("run") != plan.run:
        return None
    if stored["result"]["adapter_digest"] != adapter_digest(adapter):
        return None
    return TrainResult(**{**stored["result"], "adapter": adapter})


def write_manifest(plan: Plan, result: TrainResult) -> None:
    """Write train.json, the last file of a run."""
    source = plan.source
    model = {
        "spec": source.spec,
        "kind": source.kind,
        "revision": source.revision,
        "digest": source.digest,
    }
    write_json(
        plan.out / MANIFEST,
        {
            "run": plan.run,
            "model": model,
            "start_adapter": plan.start_digest,
            "data": plan.pairs.digest(),
            "settings": plan.settings.model_dump(mode="json"),
            "result": {**asdict(result), "adapter": ADAPTER},
        },
    )


def make_result(
    plan: Plan,
    metrics: Sequence[dict[str, Any]],
    *,
    heldout: tuple[float | None, int],
    seconds: float,
    resumed_from: int | None,
) -> TrainResult:
    """The result of a run whose adapter is written; ``metrics`` has a line for every step."""
    adapter = plan.out / ADAPTER
    fresh = metrics[resumed_from or 0 :]
    spent = sum(line["seconds"] for line in fresh)
    ln2 = plan.starts_at_reference and plan.loss.name == "sigmoid"
    last_epoch = metrics[-plan.steps_per_epoch :]
    seen = [line["reward_accuracy"] for line in last_epoch if line["reward_accuracy"] is not None]
    return TrainResult(
        adapter=adapter,
        run=plan.run,
        adapter_digest=adapter_digest(adapter),
        model_digest=plan.source.digest,
        steps=plan.total_steps,
        n_rows=len(plan.pairs.rows),
        dropped=plan.pairs.dropped,
        n_truncated=plan.pairs.n_truncated,
        first_loss=metrics[0]["loss"],
        last_loss=metrics[-1]["loss"],
        ln2_gap=abs(metrics[0]["loss"] - math.log(2)) if ln2 else None,
        reward_accuracy=sum(seen) / len(seen) if seen else None,
        heldout_accuracy=heldout[0],
        n_heldout=heldout[1],
        tokens_per_second=sum(line["n_tokens"] for line in fresh) / spent if spent else None,
        seconds=round(seconds, 3),
        resumed_from=resumed_from,
    )


def metrics_line(
    rows: Sequence[PairRow], table: Tensor, *, step: int, beta: float, **rest: float
) -> dict[str, Any]:
    """One step's metrics. table: (rows, 5) of loss, two log-ratios, two log-probs."""
    weight = torch.tensor([row.weight for row in rows])
    loss, chosen, rejected, chosen_logp, rejected_logp = table.unbind(1)
    accuracy, _ = agreement(chosen - rejected, [row.p for row in rows])
    return {
        "step": step,
        "loss": float(loss @ weight / weight.sum()),
        "reward_accuracy": accuracy,
        "reward_margin": beta * float((chosen - rejected).mean()),
        "chosen_reward": beta * float(chosen.mean()),
        "rejected_reward": beta * float(rejected.mean()),
        "chosen_logp": float(chosen_logp.mean()),
        "rejected_logp": float(rejected_logp.mean()),
        "n_pairs": len(rows),
        "n_tokens": sum(len(row.chosen.ids) + len(row.rejected.ids) for row in rows),
        **rest,
    }


def agreement(delta: Tensor, p: Sequence[float]) -> tuple[float | None, int]:
    """Part of the rows with p ≠ 0.5 where sign(delta) says what p says; a zero counts half."""
    judged = [(d, q) for d, q in zip(delta.tolist(), p, strict=True) if q != 0.5]
    if not judged:
        return None, 0
    right = sum(0.5 if d == 0 else float((d > 0) == (q > 0.5)) for d, q in judged)
    return right / len(judged), len(judged)


def kept_metrics(path: Path, done: int) -> list[dict[str, Any]]:
    """The lines of the first ``done`` steps; the file is cut to them.

    A killed run may have logged steps past its last checkpoint; they are done again.
    """
    lines: list[str] = []
    if done and path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()[:done]
    write_text(path, "".join(line + "\n" for line in lines))
    return [json.loads(line) for line in lines]
