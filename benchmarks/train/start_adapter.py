"""A fresh LoRA adapter in a folder: the start that both sides share.

python start_adapter.py MODEL FOLDER RANK ALPHA
"""

from __future__ import annotations

import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def main(model: str, folder: str, rank: str, alpha: str) -> None:
    torch.manual_seed(0)
    config = LoraConfig(
        r=int(rank),
        lora_alpha=int(alpha),
        target_modules="all-linear",
        bias="none",
        task_type="CAUSAL_LM",
    )
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    get_peft_model(base, config).save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
