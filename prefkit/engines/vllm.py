"""Text from vLLM in this process; the only module that imports vllm.

The engine core runs in the worker itself rather than in a grandchild, so that killing the worker
always frees the memory. Prompts go in as token ids, so vLLM and the trainer see the same tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, get_args

from prefkit.core.errors import EngineError, require
from prefkit.engines.base import Request, Sample, Unanswered
from prefkit.engines.settings import EngineSettings
from prefkit.policy.load import VIRTUAL_TOKENS, check_adapter, load_tokenizer
from prefkit.policy.resolve import ModelSource
from prefkit.policy.template import encode_prompt

# Lengths are rounded up to this, so that a longer prompt rarely changes the engine's shape.
LENGTH_STEP = 64
# What the head and the embedding are called in the models that transformers has.
HEADS = {"lm_head", "embed_out", "output", "embed_tokens", "wte", "embed_in"}


class VllmEngine:
    """Starts vLLM when the requests are known: their lengths set the engine's size."""

    def __init__(
        self, source: ModelSource, adapter: Path | None, settings: EngineSettings, *, policy: str
    ) -> None:
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_LOGGING_STREAM="ext://sys.stderr",
            VLLM_CPU_KVCACHE_SPACE=str(settings.cpu_kv_gib),
        )
        require("vllm", "vllm")
        if adapter is not None:
            check_servable(adapter)
        self.source = source
        self.adapter = adapter
        self.settings = settings
        self.policy = policy
        self.tokenizer = load_tokenizer(source)

    def sample(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        """Yield each request when all its samples are done."""
        prompts = [encode_prompt(self.tokenizer, request.prompt) for request in requests]
        limit = self._model_limit()
        lengths = [
            len(ids) + r.sampling.max_tokens for ids, r in zip(prompts, requests, strict=True)
        ]
        for index, length in enumerate(lengths):
            if length > limit:
                yield index, Unanswered("prompt too long for the model")
        fitting = [index for index, length in enumerate(lengths) if length <= limit]
        if not fitting:
            return
        longest = max(lengths[index] for index in fitting)
        engine = self._start(min(limit, -(-longest // LENGTH_STEP) * LENGTH_STEP))
        self._add(engine, requests, prompts, fitting)
        yield from self._collect(engine, requests)

    def _model_limit(self) -> int:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.source.path).get_text_config(decoder=True)
        limit = int(config.max_position_embeddings)
        return min(limit, self.settings.max_model_len or limit)

    def _start(self, max_model_len: int) -> Any:
        import torch

        on_gpu = torch.cuda.is_available()
        settings = self.settings
        lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": self._rank()}
        llm = require("vllm", "vllm").LLM(
            model=str(self.source.path),
            dtype="bfloat16" if settings.dtype == "auto" else settings.dtype,
            max_model_len=max_model_len,
            max_num_seqs=settings.batch_size or (256 if on_gpu else 64),
            gpu_memory_utilization=settings.gpu_memory_utilization or (0.9 if on_gpu else 0.2),
            tensor_parallel_size=settings.tensor_parallel_size,
            # Compiling for a CPU needs a C++ compiler and takes longer than it saves here.
            enforce_eager=not on_gpu,
            trust_remote_code=False,
            **(lora if self.adapter else {}),
        )
        return llm.llm_engine

    def _rank(self) -> int:
        """The smallest rank that vLLM takes and the adapter fits."""
        if self.adapter is None:
            return 0
        ranks = require("vllm.config.lora", "vllm").MaxLoRARanks
        rank = int(check_adapter(self.adapter)["r"])
        known: tuple[int, ...] = get_args(ranks)
        fitting = [candidate for candidate in known if candidate >= rank]
        if not fitting:
            raise EngineError(
                f"{self.adapter}: vLLM takes LoRA ranks up to {max(known)}, this one has {rank}",
                hint="use --backend transformers",
            )
        return min(fitting)

    def _lora_request(self) -> Any:
        if self.adapter is None:
            return None
        request_of = require("vllm.lora.request", "vllm").LoRARequest
        # vLLM's caches know an adapter by its name: a new one for other weights.
        number = int(self.policy[:7], 16) + 1
        return request_of(f"adapter-{self.policy}", number, str(self.adapter))

    def _add(
        self,
        engine: Any,
        requests: Sequence[Request],
        prompts: Sequence[list[int]],
        indices: Sequence[int],
    ) -> None:
        parameters_of = require("vllm", "vllm").SamplingParams
        lora = self._lora_request()
        asked = [{"prompt_token_ids": prompts[index]} for index in indices]
        for index, rendered in zip(indices, engine.renderer.render_cmpl(asked), strict=True):
            sampling = requests[index].sampling
            for number, seed in enumerate(requests[index].sample_seeds()):
                parameters = parameters_of(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=seed,
                    logprobs=0,
                    detokenize=False,
                )
                engine.add_request(
                    f"{index}-{number}",
                    rendered,
                    parameters,
                    lora_request=lora,
                )

    def _collect(
        self, engine: Any, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        pending: dict[int, dict[int, Sample]] = {}
        while engine.has_unfinished_requests():
            for output in engine.step():
                if not output.finished:
                    continue
                index, number = (int(part) for part in output.request_id.split("-"))
                done = pending.setdefault(index, {})
                done[number] = self._sample(output.outputs[0])
                if len(done) == requests[index].n:
                    del pending[index]
                    yield index, [done[i] for i in range(len(done))]

    def _sample(self, output: Any) -> Sample:
        # skip_special_tokens drops the end-of-turn token that the ids still hold.
        text = self.tokenizer.decode(list(output.token_ids), skip_special_tokens=True)
        return Sample(text, output.finish_reason, output.cumulative_logprob)


def check_servable(adapter: Path) -> None:
    """EngineError for an adapter that vLLM does not serve, with what to do instead.

    It serves plain LoRA of inner layers. Its own check comes late, and a head's adapter it would
    lay over a matrix that the embedding shares.
    """
    config = check_adapter(adapter)
    kind = str(config.get("peft_type"))
    if kind in VIRTUAL_TOKENS:
        raise EngineError(
            f"{adapter}: vLLM does not serve virtual tokens ({kind.replace('_', ' ').lower()})",
            hint="use --backend transformers",
        )
    what = None
    if kind != "LORA":
        what = f"adapters of method {kind.lower()}"
    elif config.get("use_dora"):
        what = "DoRA adapters"
    elif set(config.get("target_modules") or ()) & HEADS or config.get("modules_to_save"):
        what = "adapters of the head or embedding"
    if what is not None:
        raise EngineError(
            f"{adapter}: vLLM does not serve {what}",
            hint=f"prefkit merge {quote(str(adapter))} --out DIR, then --model DIR without "
            "--adapter; or --backend transformers",
        )
