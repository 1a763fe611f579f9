"""The README that travels with an adapter or model: what it was trained from, on what, by whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from prefkit.training.methods import METHODS

Form = Literal["adapter", "model", "merged"]
SHOWN = (
    "loss", "beta", "labels", "divergence", "reference", "learning_rate", "schedule", "epochs",
    "batch_size", "max_length", "seed",
)  # fmt: skip
TITLES: dict[Form, str] = {
    "adapter": "Adapter trained on preferences with prefkit",
    "model": "Model trained on preferences with prefkit",
    "merged": "Model trained on preferences with prefkit, its adapter merged in",
}


def vllm_rank(rank: int) -> int:
    """A bound that vLLM takes (it knows a few powers of two) and an adapter of ``rank`` fits."""
    return max(64, 1 << (rank - 1).bit_length())


def model_card(facts: Mapping[str, Any], form: Form, *, base: str) -> str:
    """Markdown with a YAML head as the Hub reads it.

    facts: as ``lineage`` makes them, of an adapter also its adapter_rank and trains_head; data None
    where another tool trained. base: what loads the base model, a Hub id or a folder.
    """
    parts = [
        *_head(facts, form),
        f"# {TITLES[form]}",
        "",
        *_section("Origin", _origin(facts)),
        *(_section("Data", _data(facts["data"])) if facts["data"] else []),
        *(_section("Who judged", _judged(facts["data"])) if facts["data"] else []),
        *_section("Training", _training(facts)),
        "## Use",
        "",
        *_use(facts, form, base),
    ]
    return "\n".join(parts)


def _head(facts: Mapping[str, Any], form: Form) -> list[str]:
    hub = facts["base"]["hub"]
    return [
        "---",
        *([f"base_model: {hub}"] if hub else []),
        f"library_name: {'peft' if form == 'adapter' else 'transformers'}",
        f"pipeline_tag: {'text-classification' if facts.get('reward') else 'text-generation'}",
        f"tags: [prefkit, preference-learning, {facts['method']}]",
        "---",
        "",
    ]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _origin(facts: Mapping[str, Any]) -> list[str]:
    base, start = facts["base"], facts["start"]
    revision = f", revision `{base['revision']}`" if base["revision"] else ""
    lines = [f"base model: `{base['hub'] or base['spec']}`{revision}, digest `{base['digest']}`"]
    method = METHODS.get(facts["method"])
    lines.append(f"method: {facts['method']}" + (f", {method.about}" if method else ""))
    if start:
        lines.append(f"started from: adapter `{start}`")
    if facts["run"]:
        lines.append(f"run: `{facts['run']}`")
    if facts.get("adapter"):
        lines.append(f"merged in fp32: adapter `{facts['adapter']}`, stored as {facts['rounding']}")
    return lines


def _data(data: Mapping[str, Any]) -> list[str]:
    lines = [f"{data['n_rows']} rows over {data['n_prompts']} prompts; {data['n_soft']} soft"]
    if data.get("digest"):
        lines.append(f"digest of the rows as trained on: `{data['digest']}`")
    if "dropped" in data:
        dropped = ", ".join(f"{n} {reason}" for reason, n in data["dropped"].items()) or "none"
        lines.append(f"dropped: {dropped}; truncated: {data.get('n_truncated', 0)}")
    lines += [f"prompts from {_counted(data['sources'])}"] if data["sources"] else []
    lines += [f"chosen answers by {_counted(data['answers'], '`')}"] if data["answers"] else []
    return lines


def _judged(data: Mapping[str, Any]) -> list[str]:
    """Nothing where the rows carry no votes: labels of a file say not who made them."""
    lines = [
        f"{kind}: {n} votes of {data['raters'].get(kind, 0)} raters"
        for kind, n in data["n_votes"].items()
    ]
    if data["judges"]:
        lines.append(f"machines: {', '.join(f'`{name}`' for name in data['judges'])}")
    if data["methods"]:
        lines.append(f"votes became probabilities by {_counted(data['methods'])}")
    return lines or ["the rows carry no votes; their labels came with the data"]


def _training(facts: Mapping[str, Any]) -> list[str]:
    settings = facts["settings"]
    named = [f"{key} {settings[key]}" for key in SHOWN if settings.get(key) is not None]
    return [", ".join(named)] if named else []


def _counted(counts: Mapping[str, int], mark: str = "") -> str:
    return ", ".join(f"{mark}{name}{mark} ({n})" for name, n in counts.items())


def _use(facts: Mapping[str, Any], form: Form, base: str) -> list[str]:
    if facts.get("reward"):
        return _use_rewards(facts["reward"], base if form == "adapter" else None)
    return _use_adapter(facts, base) if form == "adapter" else _use_model()


def _use_rewards(reward: Mapping[str, Any], base: str | None) -> list[str]:
    """How a reward is read; base: what the adapter lies over, None for a whole model."""
    model = repr(base or "PATH_OF_THIS_FOLDER")
    padding = reward["pad_token_id"]
    over = ", num_labels=1" + ("" if padding is None else f", pad_token_id={padding}")
    pad = f"tokenizer.pad_token = tokenizer.convert_ids_to_tokens({padding})"
    judge = f"--model {base} --adapter" if base else "--model"
    return [
        "A reward model: of two answers to one prompt, a wins with probability σ(r_a − r_b).",
        "",
        f"`prefkit judge COMPARISONS --rater reward {judge} PATH_OF_THIS_FOLDER`",
        "",
        "```python",
        *(["from peft import PeftModel"] if base else []),
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "",
        "model = AutoModelForSequenceClassification.from_pretrained(",
        f"    {model}{over if base else ''}, dtype='auto'",
        ")",
        *(["model = PeftModel.from_pretrained(model, 'PATH_OF_THIS_FOLDER')"] if base else []),
        f"tokenizer = AutoTokenizer.from_pretrained({model})",
        # Elsewhere padding is often the token that answers end with, and would hide it.
        *([pad] if base and padding is not None else []),
        "dialogue = [",
        "    {'role': 'user', 'content': 'Hello'},",
        "    {'role': 'assistant', 'content': 'Hi!'},",
        "]",
        "# The reward is read at the end-of-turn token, so nothing may follow it.",
        "text = tokenizer.apply_chat_template(dialogue, tokenize=False).rstrip()",
        "inputs = tokenizer(text, add_special_tokens=False, return_tensors='pt')",
        "inputs.pop('token_type_ids', None)",
        "print(model.eval()(**inputs).logits.item())",
        "```",
        "",
    ]


def _use_adapter(facts: Mapping[str, Any], base: str) -> list[str]:
    lines = [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"model = AutoModelForCausalLM.from_pretrained({base!r}, dtype='bfloat16')",
        f"tokenizer = AutoTokenizer.from_pretrained({base!r})",
        "model = PeftModel.from_pretrained(model, 'PATH_OF_THIS_FOLDER')",
        "```",
        "",
    ]
    method = METHODS[facts["method"]]
    if not method.merges:
        return [*lines, "vLLM does not serve virtual tokens; they cannot be merged either.", ""]
    if not method.vllm or facts["trains_head"]:
        merge = "`prefkit merge PATH_OF_THIS_FOLDER --out DIR` writes a model that vLLM serves."
        return [*lines, merge, ""]
    rank = vllm_rank(facts["adapter_rank"])
    return [
        *lines,
        "```python",
        "from vllm import LLM",
        "from vllm.lora.request import LoRARequest",
        "",
        f"llm = LLM({base!r}, enable_lora=True, max_lora_rank={rank})",
        "lora = LoRARequest('prefkit', 1, 'PATH_OF_THIS_FOLDER')",
        "print(llm.chat([{'role': 'user', 'content': 'Hello'}], lora_request=lora))",
        "```",
        "",
    ]


def _use_model() -> list[str]:
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        "model = AutoModelForCausalLM.from_pretrained('PATH_OF_THIS_FOLDER', dtype='auto')",
        "tokenizer = AutoTokenizer.from_pretrained('PATH_OF_THIS_FOLDER')",
        "```",
        "",
        "```python",
        "from vllm import LLM",
        "",
        "print(LLM('PATH_OF_THIS_FOLDER').chat([{'role': 'user', 'content': 'Hello'}]))",
        "```",
        "",
    ]
