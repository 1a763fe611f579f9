"""What can be trained of a model, by name: adapters, virtual tokens or every weight.

Knows names and facts, no tensor: settings are checked against it before anything heavy is loaded.
Each method of peft that is not here was tried or read and is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prefkit.core.registry import did_you_mean

Kind = Literal["layers", "virtual", "full"]


@dataclass(frozen=True, slots=True)
class Method:
    """kind: what is trained, adapters of linear layers, virtual tokens, or all weights.

    config: the name of peft's configuration class, empty for full. fields: what that
    configuration is given besides the rank and the layers; values in braces are settings of
    ``lora``. ranked: whether it has a rank. vllm: whether vLLM serves the adapter as it is.
    """

    name: str
    kind: Kind
    about: str
    config: str = ""
    fields: tuple[tuple[str, str | bool | int], ...] = ()
    ranked: bool = True
    dropout: bool = False
    vllm: bool = False

    @property
    def merges(self) -> bool:
        """Whether the result can be written as weights of the model itself."""
        return self.kind == "layers"

    @property
    def starts_at_base(self) -> bool:
        """Whether a new one changes nothing: virtual tokens are read from the first step on."""
        return self.kind != "virtual"


_LORA = (("lora_alpha", "{alpha}"), ("lora_dropout", "{dropout}"))

_ALL = (
    Method("lora", "layers", "low-rank update (arXiv 2106.09685)", "LoraConfig", _LORA,
           dropout=True, vllm=True),
    Method("qlora", "layers", "LoRA over 4-bit weights (arXiv 2305.14314)", "LoraConfig", _LORA,
           dropout=True, vllm=True),
    Method("dora", "layers", "LoRA with learned magnitudes (arXiv 2402.09353)", "LoraConfig",
           (*_LORA, ("use_dora", True)), dropout=True),
    Method("prefix", "virtual", "keys and values before each layer's (arXiv 2101.00190)",
           "PrefixTuningConfig"),
    Method("prompt", "virtual", "embeddings before the prompt (arXiv 2104.08691)",
           "PromptTuningConfig"),
    Method("full", "full", "every weight of the model"),
    Method("ia3", "layers", "a learned scale of each output (arXiv 2205.05638)", "IA3Config",
           ranked=False),
    Method("loha", "layers", "Hadamard product of low ranks (arXiv 2108.06098)", "LoHaConfig",
           (("alpha", "{alpha}"),)),
    Method("lokr", "layers", "Kronecker product of low ranks (arXiv 2309.14859)", "LoKrConfig",
           (("alpha", "{alpha}"),)),
    Method("vera", "layers", "learned scales of shared random ranks (arXiv 2310.11454)",
           "VeraConfig", (("vera_dropout", "{dropout}"),), dropout=True),
    Method("randlora", "layers", "learned scales of many random ranks (arXiv 2502.00987)",
           "RandLoraConfig",
           (("randlora_alpha", "{alpha}"), ("randlora_dropout", "{dropout}")), dropout=True),
    Method("oft", "layers", "rotations of blocks, in orthogonal form (arXiv 2306.07280)",
           "OFTConfig", (("module_dropout", "{dropout}"),), ranked=False, dropout=True),
    Method("hra", "layers", "a chain of reflections (arXiv 2405.17484)", "HRAConfig"),
    Method("fourierft", "layers", "a few learned frequencies (arXiv 2405.03003)",
           "FourierFTConfig", (("init_weights", True),), ranked=False),
    Method("miss", "layers", "shared shards of the input (arXiv 2409.15371)", "MissConfig",
           (("miss_dropout", "{dropout}"),), dropout=True),
    Method("delora", "layers", "low-rank update of bounded norm (arXiv 2503.18225)",
           "DeloraConfig", (("module_dropout", "{dropout}"),), dropout=True),
    Method("hira", "layers", "low-rank update times the weight", "HiraConfig",
           (("hira_dropout", "{dropout}"),), dropout=True),
)  # fmt: skip

METHODS: dict[str, Method] = {method.name: method for method in _ALL}

_TASKS = "it needs a task number with every row, and preferences have none"
_OTHER = "it was not tried with preferences here; lora, dora or vera serve the same end"

# Methods of peft 0.21 that prefkit does not train with, and why.
REFUSED: dict[str, str] = {
    "adalora": "it gives ranks away between steps by a schedule of its own; choose lora.r instead",
    "adaption_prompt": "it fits LLaMA-like layers only and cannot be merged; use prefix",
    "beft": "it trains biases, and the linear layers of today's models have none",
    "boft": "it compiles CUDA code when it starts; use oft",
    "cartridge": "it is prefix tuning distilled from a document; use prefix",
    "cpt": "it brings its own loss and labels each token of the prompt; use prompt",
    "c3a": "its start changes the model's answers; use lora",
    "lily": "it shares weights between layers and cannot be merged; use vera",
    "ln_tuning": "it trains the norms only, not linear layers; use ia3",
    "multitask_prompt_tuning": f"{_TASKS}; use prompt",
    "p_tuning": "its encoder is thrown away after training; what is left is prompt",
    "poly": f"{_TASKS}; use lora",
    "shadow": "it does not run with transformers 5; use lora",
    "trainable_tokens": "it trains the embeddings of named tokens only; use lora or full",
    "unilora": "its start changes the model's answers; use vera",
    "vblora": "its start changes the model's answers; use vera",
    "xlora": "it mixes adapters that exist already and trains none; use lora",
    **dict.fromkeys(
        ("adamss", "deft", "frod", "glora", "gralora", "osf", "peanut", "psoft", "pvera", "road",
         "shira", "supertuning", "tinylora", "waveft"),
        _OTHER,
    ),
    "prefix_tuning": "here it is called prefix",
    "prompt_tuning": "here it is called prompt",
}  # fmt: skip


def find_method(name: str) -> Method:
    """The method; ValueError that says why not, for settings to report with its key."""
    if name in METHODS:
        return METHODS[name]
    known = f"known: {', '.join(METHODS)}"
    reason = REFUSED.get(name.lower())
    if reason is not None:
        raise ValueError(f"{reason} ({known})")
    raise ValueError(f"no such method{did_you_mean(name, list(METHODS))} ({known})")


def method_of(config: Mapping[str, object]) -> str:
    """The name of the method that wrote an adapter's configuration, or peft's own in lower case."""
    peft_type = str(config.get("peft_type", "")).upper()
    if peft_type == "LORA":
        return "dora" if config.get("use_dora") else "lora"
    of_type = {"PREFIX_TUNING": "prefix", "PROMPT_TUNING": "prompt"}
    return of_type.get(peft_type, peft_type.lower())
