"""Weights in memory: a causal language model, its tokenizer and, if asked for, a LoRA adapter."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.core.errors import ConfigError, EnvironmentFault, ModelError, require
from prefkit.core.ids import content_id
from prefkit.policy.adapter_base import check_base
from prefkit.policy.cache import files_digest
from prefkit.policy.gguf import quiet_transformers
from prefkit.policy.resolve import ModelSource, resolve_model

if TYPE_CHECKING:
    import torch

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
VIRTUAL_TOKENS = ("PREFIX_TUNING", "PROMPT_TUNING")
REWARD_TASK = "SEQ_CLS"  # what peft calls an adapter of a model with one output
DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded model. ``digest`` names its weights, the adapter's included."""

    model: Any
    tokenizer: Any
    source: ModelSource
    digest: str

    @property
    def pad_id(self) -> int:
        """The token that fills rows; its value never matters, padding is masked."""
        return pad_id(self.tokenizer)


def pad_id(tokenizer: Any) -> int:
    """The pad token, else the end-of-text token, else 0."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer of ``source`` (some 0.1 s, no weights); ModelError if it is damaged."""
    transformers = require("transformers", "train")
    with quiet_transformers():
        try:
            return transformers.AutoTokenizer.from_pretrained(source.path, local_files_only=True)
        except _unloadable() as error:
            raise ModelError(
                f"{source.path}: transformers cannot load this tokenizer: {error}",
                hint="download the model again",
            ) from None


def load_policy(
    source: ModelSource | str,
    *,
    adapter: Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    quantize: bool = False,
) -> Policy:
    """Load a model in evaluation mode; ``adapter`` is a peft folder laid over it.

    dtype "auto" is bfloat16; device "auto" is CUDA where there is one, else the CPU. quantize:
    4-bit weights (nf4, arXiv 2305.14314), computing in ``dtype``; CUDA only. Raises ModelError for
    weights that do not load, and for an adapter of another base.
    """
    if isinstance(source, str):
        source = resolve_model(source)
    digest = policy_digest(source, adapter)
    tokenizer = load_tokenizer(source)
    loader = require("transformers", "train").AutoModelForCausalLM
    model, _ = load_weights(loader, source, dtype=dtype, device=device, quantize=quantize)
    if adapter is not None:
        model = attach_adapter(model, adapter)
    model.eval()
    return Policy(model, tokenizer, source, digest)


def load_weights(
    loader: Any,
    source: ModelSource,
    *,
    dtype: str,
    device: str,
    quantize: bool = False,
    **arguments: Any,
) -> tuple[Any, frozenset[str]]:
    """What ``loader.from_pretrained`` makes of ``source``, on its device, and the names of weights
    that the files lack. Raises ModelError for weights that do not load."""
    torch = require("torch", "train")
    place, precision = pick_device(device), pick_dtype(dtype)
    packed = four_bits(place, precision) if quantize else {}
    with quiet_transformers():
        try:
            model, info = loader.from_pretrained(
                source.path,
                dtype=precision,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **packed,
                **arguments,
            )
            if not quantize:
                model.to(place)
        except torch.OutOfMemoryError:
            raise EnvironmentFault(
                f"{source.spec}: not enough memory for {source.size_bytes / 1e9:.1f} GB of weights",
                hint="choose a smaller --model",
            ) from None
        except _unloadable() as error:
            raise ModelError(
                f"{source.path}: transformers cannot load this model: {error}",
                hint="models that need remote code are not supported; else download it again",
            ) from None
    return model, frozenset(info["missing_keys"])


def model_outline(source: ModelSource, *, rewards: bool = False) -> Any | None:
    """The model of ``source`` without its weights, some 0.1 s: layers with names and shapes.

    rewards: as a reward model. None where transformers cannot make it so; loading then tells why,
    if it cannot do so either.
    """
    transformers, torch = require("transformers", "train"), require("torch", "train")
    auto = transformers.AutoModelForCausalLM
    if rewards:
        auto = transformers.AutoModelForSequenceClassification
    with quiet_transformers(), torch.device("meta"):
        try:
            config = transformers.AutoConfig.from_pretrained(source.path, local_files_only=True)
            return auto.from_config(config)
        except (OSError, ImportError, *_unloadable()):
            return None


def four_bits(place: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """What from_pretrained needs for nf4 weights; refused by name where they cannot be had."""
    if place.type != "cuda":
        raise ConfigError(
            f"4-bit weights (method qlora) need a CUDA device, and this run is on the {place.type}",
            hint="use method lora, or a machine with an NVIDIA GPU",
        )
    require("bitsandbytes", "qlora")
    config = require("transformers", "train").BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision,
    )
    return {"quantization_config": config, "device_map": {"": place}}


def _unloadable() -> tuple[type[Exception], ...]:
    """What transformers and peft raise for damaged files and values that do not fit together."""
    damaged = require("safetensors", "train").SafetensorError
    wrong_config = require("huggingface_hub.errors", "train").StrictDataclassError
    return RuntimeError, ValueError, KeyError, TypeError, damaged, wrong_config


def attach_adapter(model: Any, adapter: Path, *, trainable: bool = False) -> Any:
    """``model`` with the adapter of a peft folder over it; ModelError if it does not fit.

    A reward model that is trained further takes a language model's adapter too, SFT's say: its
    layers go on, and the reward's layer is trained beside them.
    """
    config = check_adapter(adapter)
    peft = require("peft", "train")
    borrowed = _check_task(model, adapter, config, trainable)
    try:
        if borrowed:
            return _on_reward_model(model, adapter)
        if trainable and config.get("peft_type") in VIRTUAL_TOKENS:
            return _virtual_tokens_again(model, adapter)
        # Kept in the model's own precision: on a CPU, fp32 adapters under a bf16 model cost twice.
        with quiet_transformers():
            return peft.PeftModel.from_pretrained(
                model, str(adapter), is_trainable=trainable, autocast_adapter_dtype=False
            )
    except _unloadable() as error:
        raise ModelError(
            f"{adapter}: the adapter is damaged or does not fit this model: {error}",
            hint="use the base model that the adapter's README names",
        ) from None


def _check_task(model: Any, adapter: Path, config: dict[str, Any], trainable: bool) -> bool:
    """Whether the adapter is a language model's, to be trained further on a reward model."""
    from prefkit.policy.parts import is_reward_model  # it needs torch

    of_rewards = config.get("task_type") == REWARD_TASK
    if of_rewards == is_reward_model(model):
        return False
    if of_rewards:
        raise ModelError(
            f"{adapter}: this is a reward model's adapter, and it was to go over a language model",
            hint="give it to `prefkit judge --rater reward`, or train with loss=bradley_terry",
        )
    if not trainable or config.get("peft_type") in VIRTUAL_TOKENS:
        raise ModelError(
            f"{adapter}: this adapter holds no reward model",
            hint="give one that was trained with loss=bradley_terry",
        )
    return True


def _on_reward_model(model: Any, adapter: Path) -> Any:
    """A reward model's new adapter whose layers begin as those of a language model's adapter."""
    peft = require("peft", "train")
    config = peft.PeftConfig.from_pretrained(str(adapter))
    config.task_type, config.inference_mode = REWARD_TASK, False
    # peft wants the weights of every copy it keeps; once wrapped they have other names.
    score = {f"base_model.model.score.{n}": w for n, w in model.score.state_dict().items()}
    with quiet_transformers():
        wrapped = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
        saved = peft.utils.load_peft_weights(str(adapter), device=str(model.device))
        saved.update(score)
        unknown = peft.set_peft_model_state_dict(wrapped, saved).unexpected_keys
    if unknown:
        raise ModelError(
            f"{adapter}: a reward model has no place for its {unknown[0]}",
            hint="merge it first (prefkit merge ADAPTER --out DIR), then --model DIR",
        )
    return wrapped


def _virtual_tokens_again(model: Any, adapter: Path) -> Any:
    """Virtual tokens to train further, which peft's own loading does not allow."""
    peft, torch = require("peft", "train"), require("torch", "train")
    config = peft.PeftConfig.from_pretrained(str(adapter))
    config.inference_mode = False
    with quiet_transformers():
        wrapped = peft.get_peft_model(model, config)
        saved = peft.utils.load_peft_weights(str(adapter), device=str(model.device))
    with torch.no_grad():
        encoder = wrapped.prompt_encoder[wrapped.active_adapter]
        encoder.embedding.weight.copy_(saved["prompt_embeddings"])
    return wrapped


def check_adapter(adapter: Path) -> dict[str, Any]:
    """The adapter's configuration; ModelError where the folder is no peft adapter."""
    config = adapter / ADAPTER_CONFIG
    if not config.is_file() or not (adapter / ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            f"{adapter}: not an adapter folder ({ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} expected)",
            hint="give the folder that `prefkit train` wrote, for example OUT/adapter",
        )
    try:
        value = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config}: not JSON: {error}", hint="train the adapter again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{config}: expected a JSON object", hint="train the adapter again")
    return value


def adapter_digest(path: Path) -> str:
    """Digest of an adapter's weights and configuration (its README does not count)."""
    check_adapter(path)
    return files_digest(path, [path / ADAPTER_CONFIG, path / ADAPTER_WEIGHTS])


def policy_digest(source: ModelSource, adapter: Path | None) -> str:
    """What names the weights that wrote an answer (``Completion.model``).

    Every way to lay an adapter over a model asks for it, so an adapter that was trained over
    another base ends here: ModelError.
    """
    if adapter is None:
        return source.digest
    check_base(source, adapter)
    return content_id({"model": source.digest, "adapter": adapter_digest(adapter)})


def pick_device(device: str) -> torch.device:
    """ "auto" is CUDA where there is one, else the CPU; EnvironmentFault for a device not here."""
    torch = require("torch", "train")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device is {device!r}: expected auto, cpu, cuda or cuda:N") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault(
            f"device {device!r}: this PyTorch sees no CUDA device", hint="run `prefkit doctor`"
        )
    return place


def pick_dtype(dtype: str) -> torch.dtype:
    """ "auto" is bfloat16 on CPU and CUDA alike: the range of fp32 at half the traffic."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}: expected one of {', '.join(DTYPES)}")
    torch = importlib.import_module("torch")
    return torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)


def release_memory() -> None:
    """Give back to the system and the GPU what models that nobody holds any more took.

    glibc keeps freed blocks of the size of activations: 2.3 GiB were resident after a training
    run of SmolLM2 and 0.7 GiB after trimming (2026-11-21). The next stage's engine needs them.
    """
    gc.collect()
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
