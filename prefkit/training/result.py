"""What a training run says of itself: a result, and a manifest that is written last of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from prefkit.core.files import read_json, write_json
from prefkit.core.ids import content_id
from prefkit.policy.cache import files_digest
from prefkit.policy.layout import Layout
from prefkit.policy.load import ADAPTER_CONFIG, adapter_digest
from prefkit.training.monitor import Monitor
from prefkit.training.plan import Plan
from prefkit.training.precision import Precision

MANIFEST = "train.json"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run came to.

    folder: OUT/adapter or OUT/model; digest names its weights. first_loss, last_loss: of the first
    and last step. ln2_gap: |first loss − ln 2| of a sigmoid run that starts at its reference, else
    None. reward_accuracy: over the last epoch, as trained on; heldout_accuracy, heldout_loss: of
    the held-out rows at the last evaluation; None without such rows. n_rows, n_heldout: rows of the
    data that are trained on and measured; n_trained: the rows of an epoch's steps, more where each
    answer of a pair is one. dropped, heldout_dropped: reason → rows, of the data and of those held
    out. left_out: reason → answers not used though their row is; n_flipped: pairs whose sides were
    swapped, p < 0.5; n_without_p: rows without p where others have one, taken as certain; all
    three of all that was read. n_shared_prompts: held-out prompts trained on too.
    alarms: what was told on the way. resumed_from: the step a killed run went on from, else None.
    dtype, trained_dtype, stored_dtype: as in Precision. seconds: of this process.
    tokens_per_second: as if every answer had fed its own prompt.
    """

    folder: Path
    run: str
    digest: str
    model_digest: str
    reference: str | None
    layout: str
    dtype: str
    trained_dtype: str
    stored_dtype: str | None
    steps: int
    n_rows: int
    n_trained: int
    n_flipped: int
    n_without_p: int
    dropped: dict[str, int]
    left_out: dict[str, int]
    n_truncated: int
    first_loss: float
    last_loss: float
    ln2_gap: float | None
    reward_accuracy: float | None
    heldout_accuracy: float | None
    heldout_loss: float | None
    n_heldout: int
    heldout_dropped: dict[str, int]
    n_shared_prompts: int
    best_step: int | None
    alarms: tuple[str, ...]
    tokens_per_second: float | None
    seconds: float
    resumed_from: int | None

    @property
    def adapter(self) -> Path | None:
        """The adapter's folder, None where all weights were trained."""
        return self.folder if (self.folder / ADAPTER_CONFIG).is_file() else None

    def facts(self) -> dict[str, str]:
        """What a person wants to know, by name: for the terminal and the report."""
        dropped, held, left_out = (
            ", ".join(f"{n} {reason}" for reason, n in counts.items()) or "none"
            for counts in (self.dropped, self.heldout_dropped, self.left_out)
        )
        single = f" as {self.n_trained} single answers" if self.n_trained != self.n_rows else ""
        ln2 = f"; ln 2 ± {self.ln2_gap:.1e}" if self.ln2_gap is not None else ""
        facts = {
            "rows": f"{self.n_rows} trained on{single}; dropped: {dropped}; "
            f"truncated: {self.n_truncated}",
            "answers left out": left_out if self.left_out else None,
            "sides swapped": f"{self.n_flipped} (p < 0.5)" if self.n_flipped else None,
            "rows without p": f"{self.n_without_p}, taken as certain" if self.n_without_p else None,
            "reference": self.reference,
            "rows in memory": self.layout,
            "precision": str(Precision(self.dtype, self.trained_dtype, self.stored_dtype)),
            "steps": str(self.steps),
            "loss": f"{self.first_loss:.4f} at first{ln2}, {self.last_loss:.4f} at last",
            "reward accuracy": _part(self.reward_accuracy, "last epoch, as trained on"),
        }
        if self.heldout_dropped:
            facts["held-out rows"] = f"{self.n_heldout} kept; dropped: {held}"
        if self.n_shared_prompts:
            facts["held-out prompts"] = f"{self.n_shared_prompts} are trained on too"
        if self.n_heldout:
            where = f"{self.n_heldout} held-out rows"
            facts["held-out accuracy"] = _part(self.heldout_accuracy, where)
            facts["held-out loss"] = _number(self.heldout_loss)
        facts["best step"] = str(self.best_step) if self.best_step is not None else None
        facts["went on from"] = f"step {self.resumed_from}" if self.resumed_from else None
        speed = f", {self.tokens_per_second:,.0f} tokens/s" if self.tokens_per_second else ""
        facts["time"] = f"{self.seconds:.0f} s{speed}"
        facts["alarms"] = "; ".join(self.alarms) or None
        facts["written to"] = str(self.folder)
        return {name: value for name, value in facts.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        value = {**asdict(self), "folder": str(self.folder), "alarms": list(self.alarms)}
        return value | {"adapter": str(self.adapter) if self.adapter else None}


def _part(value: float | None, of: str) -> str | None:
    return f"{value:.1%} ({of})" if value is not None else None


def _number(value: float | None) -> str | None:
    return f"{value:.4f}" if value is not None else None


def weights_digest(folder: Path) -> str:
    """Digest of what was written: an adapter's weights and configuration, or a model's."""
    if (folder / ADAPTER_CONFIG).is_file():
        return adapter_digest(folder)
    return files_digest(folder, [*folder.glob("*.safetensors"), folder / "config.json"])


def finished(plan: Plan) -> TrainResult | None:
    """The result of an earlier run of exactly this plan in ``plan.out``, None if there is none."""
    manifest = plan.out / MANIFEST
    if not manifest.is_file():
        return None
    stored = read_json(manifest)
    # Another version of prefkit may have known other facts of a result.
    known = {field.name for field in fields(TrainResult)}
    if stored.get("run") != plan.run or stored.get("result", {}).keys() != known:
        return None
    folder = plan.out / stored["result"]["folder"]
    if not folder.is_dir() or stored["result"]["digest"] != weights_digest(folder):
        return None
    alarms = tuple(stored["result"]["alarms"])
    return TrainResult(**{**stored["result"], "folder": folder, "alarms": alarms})


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
            "inputs": plan.identity.inputs,
            "versions": dict(plan.identity.versions),
            "model": model,
            "start_adapter": plan.start_digest,
            "data": content_id([plan.rows.digest(), plan.heldout.digest()]),
            "settings": plan.settings.model_dump(mode="json"),
            "result": {**asdict(result), "folder": result.folder.name},
        },
    )


def make_result(
    plan: Plan,
    monitor: Monitor,
    folder: Path,
    *,
    layout: Layout,
    precision: Precision,
    best_step: int | None,
    seconds: float,
    resumed_from: int | None,
) -> TrainResult:
    """The result of a run whose weights are written; the monitor has a line for every step."""
    lines, evaluations = monitor.lines, monitor.evaluations
    fresh = lines[resumed_from or 0 :]
    spent = sum(line["seconds"] for line in fresh)
    tokens = sum(line["n_tokens_equivalent"] for line in fresh)
    ln2 = plan.first_loss
    last = evaluations[-1] if evaluations else {}
    return TrainResult(
        folder=folder,
        run=plan.run,
        digest=weights_digest(folder),
        model_digest=plan.source.digest,
        reference=plan.reference.describe() if plan.reference else None,
        layout=f"{layout.kind}: {layout.reason}",
        dtype=precision.dtype,
        trained_dtype=precision.trained,
        stored_dtype=precision.stored,
        steps=len(lines),
        n_rows=plan.rows.n_kept,
        n_trained=len(plan.rows.rows),
        n_flipped=plan.n_flipped,
        n_without_p=plan.n_without_p,
        dropped=plan.rows.dropped,
        left_out=dict(plan.left_out),
        n_truncated=plan.rows.n_truncated,
        first_loss=lines[0]["loss"],
        last_loss=lines[-1]["loss"],
        ln2_gap=None if ln2 is None else abs(lines[0]["loss"] - ln2),
        reward_accuracy=_accuracy(lines[-plan.steps_per_epoch :]),
        heldout_accuracy=last.get("reward_accuracy"),
        heldout_loss=last.get("loss"),
        n_heldout=plan.heldout.n_kept,
        heldout_dropped=plan.heldout.dropped,
        n_shared_prompts=plan.n_shared_prompts,
        best_step=best_step,
        alarms=tuple(str(alarm) for alarm in monitor.alarms),
        tokens_per_second=tokens / spent if spent else None,
        seconds=round(seconds, 3),
        resumed_from=resumed_from,
    )


def _accuracy(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """The accuracy over all that the steps judged, which may be more in one than in another."""
    judged = [line for line in lines if line.get("reward_accuracy") is not None]
    right = sum(line["reward_accuracy"] * line["n_judged"] for line in judged)
    return right / sum(line["n_judged"] for line in judged) if judged else None
