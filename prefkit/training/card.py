"""The README that travels with an adapter: what it was trained from, on what, how to load it."""

from __future__ import annotations

from prefkit.policy.resolve import ModelSource
from prefkit.training.rows import Pairs
from prefkit.training.settings import TrainSettings


def base_name(source: ModelSource) -> str:
    """What loads the base model again: the Hub id, or the folder."""
    return source.spec.partition("@")[0] if source.kind == "hub" else str(source.path.resolve())


def vllm_rank(rank: int) -> int:
    """A bound that vLLM takes (it knows a few powers of two) and an adapter of ``rank`` fits."""
    return max(64, 1 << (rank - 1).bit_length())


def adapter_card(
    source: ModelSource, settings: TrainSettings, pairs: Pairs, *, start: str | None, run: str
) -> str:
    """Markdown with a YAML head as the Hub reads it."""
    base = base_name(source)
    revision = f", revision `{source.revision}`" if source.revision else ""
    dropped = ", ".join(f"{n} {reason}" for reason, n in pairs.dropped.items()) or "none"
    tag = base if source.kind == "hub" else "HuggingFaceTB/SmolLM2-135M-Instruct"
    head = ["---", "library_name: peft", "tags: [lora, dpo, prefkit]"]
    if source.kind in ("hub", "embedded"):
        head.insert(1, f"base_model: {tag}")
    return "\n".join(
        [
            *head,
            "---",
            "# LoRA adapter trained on preferences with prefkit",
            "",
            f"- base model: `{source.spec}`{revision}, digest `{source.digest}`",
            f"- started from: {f'adapter `{start}`' if start else 'a new adapter'}",
            f"- pairs: {len(pairs.rows)} trained on; dropped: {dropped}; "
            f"{pairs.n_truncated} truncated",
            f"- data digest: `{pairs.digest()}`; run: `{run}`",
            f"- loss: {settings.loss}, beta {settings.beta}, reference {settings.reference}, "
            f"{settings.epochs} epochs, batch {settings.batch_size}, "
            f"learning rate {settings.learning_rate}, seed {settings.seed}",
            "",
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"model = AutoModelForCausalLM.from_pretrained({base!r}, dtype='bfloat16')",
            f"tokenizer = AutoTokenizer.from_pretrained({base!r})",
            "model = PeftModel.from_pretrained(model, 'PATH_OF_THIS_FOLDER')",
            "```",
            "",
            "```python",
            "from vllm import LLM",
            "from vllm.lora.request import LoRARequest",
            "",
            f"llm = LLM({base!r}, enable_lora=True, max_lora_rank={vllm_rank(settings.lora.r)})",
            "lora = LoRARequest('prefkit', 1, 'PATH_OF_THIS_FOLDER')",
            "print(llm.chat([{'role': 'user', 'content': 'Hello'}], lora_request=lora))",
            "```",
            "",
        ]
    )
