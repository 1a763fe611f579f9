"""A LoRA adapter with random weights for the tiny model, so that it changes every answer."""

from __future__ import annotations

from pathlib import Path


def build_tiny_adapter(model_dir: Path, folder: Path, *, alpha: float = 32) -> Path:
    """Write the adapter into ``folder`` and return it; with alpha 32 it drowns the model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        config = LoraConfig(
            r=4,
            lora_alpha=alpha,
            target_modules=["q_proj", "v_proj", "down_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        get_peft_model(model, config).save_pretrained(folder)
    return folder
