"""TRL's side of the benchmark: a process of its own in TRL's environment; prefkit is not there.

    PEER/bin/python trl_side.py JOB.json

Reads the job, trains, writes FOLDER/figures.json (what run.py reads). The settings are those of
the job and nothing else; where TRL's own default differs it is named beside the line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class Clock(TrainerCallback):
    """Seconds of every optimiser step and the loss that TRL logs for it."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.begun.append(now())

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.ended.append(now())

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float], **rest: Any
    ) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def now() -> float:
    """The clock, after whatever a GPU still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class TimedTrainer(DPOTrainer):
    """TRL's trainer on the tokens that prefkit scores; it notes what precomputing took.

    Chat templates put a line break after the end of a turn. TRL scores it, prefkit does not
    (docs/from-trl.md); here neither does, so that both sides compute the same losses.
    """

    reference_seconds = 0.0

    def _prepare_dataset(self, *given: Any, **named: Any) -> Any:
        end = self._tokenizer.eos_token_id

        def without_rest(row: dict[str, list[int]]) -> dict[str, list[int]]:
            kept = {}
            for side in ("chosen_ids", "rejected_ids"):
                ids = row[side]
                kept[side] = ids[: len(ids) - ids[::-1].index(end)]
            return kept

        return super()._prepare_dataset(*given, **named).map(without_rest)

    def _precompute_ref_logps(self, *given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        scored = super()._precompute_ref_logps(*given, **named)
        self.reference_seconds += time.perf_counter() - started
        return scored


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    started = time.perf_counter()
    clock = Clock()
    trainer = TimedTrainer(
        model=job["model"],
        args=config(job, folder),
        train_dataset=load_dataset("json", data_files=job["pairs"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LoraConfig(
            r=job["rank"], lora_alpha=job["alpha"], target_modules="all-linear", bias="none"
        ),
        callbacks=[clock],
    )
    start_from(trainer.model, Path(job["adapter"]))
    trainer.train()
    figures = {
        "losses": clock.losses,
        "step_seconds": [b - a for a, b in zip(clock.begun, clock.ended, strict=True)],
        # Of all rows; 0 where the reference is scored within each step.
        "reference_seconds": trainer.reference_seconds,
        "reference_pairs": len(trainer.train_dataset) if job["precompute"] else 0,
        "seconds": time.perf_counter() - started,
        "cuda_peak_bytes": torch.cuda.max_memory_allocated() if job["device"] == "cuda" else None,
    }
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def config(job: dict[str, Any], folder: Path) -> DPOConfig:
    """TRL's settings for the job."""
    return DPOConfig(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=job["micro_batch"],
        gradient_accumulation_steps=job["batch_size"] // job["micro_batch"],
        max_steps=job["steps"],
        beta=job["beta"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",  # default: linear
        warmup_steps=0,
        max_grad_norm=1.0,
        weight_decay=0.0,
        max_length=1024,
        gradient_checkpointing=job["checkpointing"],  # default: on
        precompute_ref_log_probs=job["precompute"],
        precompute_ref_batch_size=job["micro_batch"],
        # TRL's default is fp32 weights under bf16 autocast; both sides hold the same precision.
        model_init_kwargs={"dtype": job["dtype"]},
        bf16=job["dtype"] == "bfloat16",
        use_cpu=job["device"] == "cpu",
        dataloader_pin_memory=job["device"] != "cpu",
        train_sampling_strategy="sequential",  # default: shuffled
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )


def start_from(model: torch.nn.Module, adapter: Path) -> None:
    """Give the fresh LoRA the start that both sides share: A as saved, B zero."""
    saved = load_file(adapter / "adapter_model.safetensors")
    named = dict(model.named_parameters())
    for key, value in saved.items():
        name = key.replace(".weight", ".default.weight")
        with torch.no_grad():
            named[name].copy_(value)
    fresh = {name for name, value in named.items() if value.requires_grad}
    if len(saved) != len(fresh):
        raise SystemExit(f"{adapter} holds {len(saved)} tensors, the trainer has {len(fresh)}")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
