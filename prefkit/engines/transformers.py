"""Text from a model in this process, through transformers: the default where vLLM is not installed.

Each sample draws from its own seed, so neighbours and batch size change nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefkit.core.errors import EngineError
from prefkit.engines.base import Request, Sample, Unanswered
from prefkit.engines.settings import EngineSettings
from prefkit.policy.load import load_policy
from prefkit.policy.resolve import ModelSource
from prefkit.policy.template import encode_prompt

ATTENTION = {"full_attention", "sliding_attention"}


class TransformersEngine:
    """Loads the policy once. An adapter stays beside the weights, as it was trained.

    Merging it would be some percent faster and wrong: bf16 weights lie on a grid, and every change
    smaller than half a step of it (about 0.2 % of a weight) would be rounded away.
    """

    def __init__(self, source: ModelSource, adapter: Path | None, settings: EngineSettings) -> None:
        import torch

        from prefkit.engines.attention import use_grouped_attention
        from prefkit.engines.decoding import Decoder
        from prefkit.policy.virtual import virtual_keys_values

        policy = load_policy(source, adapter=adapter, dtype=settings.dtype, device=settings.device)
        with torch.inference_mode():
            virtual = virtual_keys_values(policy.model)
        model = policy.model if adapter is None else policy.model.get_base_model()
        use_grouped_attention(model)
        contiguous_head(model)
        self.tokenizer = policy.tokenizer
        self.stop_ids = stop_ids(model, policy.tokenizer)
        config = model.config.get_text_config(decoder=True)
        self.max_length: int = config.max_position_embeddings
        layers = set(getattr(config, "layer_types", None) or ["full_attention"])
        if not layers <= ATTENTION:
            raise EngineError(
                f"{source.spec}: the transformers engine does not decode layers of type "
                f"{', '.join(sorted(layers - ATTENTION))}",
                hint="use --backend vllm or a running server",
            )
        full = layers == {"full_attention"}
        if virtual and not full:
            raise EngineError(
                f"{adapter}: virtual tokens in front of sliding windows cannot be decoded here",
                hint="train with method lora for this model",
            )
        on_cpu = model.device.type == "cpu"
        self.decoder = Decoder(
            model,
            stop_ids=self.stop_ids,
            batch_size=settings.batch_size or (128 if on_cpu else 256),
            # Padding inside a row would shift a window that counts columns.
            share_prefix=full,
            virtual=virtual,
        )
        self.max_length -= self.decoder.n_virtual

    def sample(
        self, requests: Sequence[Request]
    ) -> Iterator[tuple[int, list[Sample] | Unanswered]]:
        """Yield each request when all its samples are done."""
        from prefkit.engines.decoding import Continuation, Row

        work: list[Continuation] = []
        for index, request in enumerate(requests):
            ids = encode_prompt(self.tokenizer, request.prompt)
            sampling = request.sampling
            if len(ids) + sampling.max_tokens > self.max_length:
                yield index, Unanswered("prompt too long for the model")
                continue
            seeds = tuple(request.sample_seeds())
            work.append(
                Continuation(
                    index,
                    tuple(ids),
                    seeds,
                    sampling.temperature,
                    sampling.top_p,
                    sampling.max_tokens,
                )
            )
        pending: dict[int, dict[int, Row]] = {}
        for row in self.decoder.run(work):
            done = pending.setdefault(row.index, {})
            done[row.sample] = row
            if len(done) == requests[row.index].n:
                del pending[row.index]
                yield row.index, [self._sample(done[i]) for i in range(len(done))]

    def _sample(self, row: Any) -> Sample:
        tokens = row.tokens[:-1] if row.stopped else row.tokens
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return Sample(text, "stop" if row.stopped else "length", row.logprob)


def contiguous_head(model: Any) -> None:
    """Let the head read the last positions of a prefill as rows that lie side by side.

    They are a slice (B, 1, D) of (B, W, D), and PyTorch multiplies a slice by frozen weights as B
    products, each with a copy of the weights: 3.6 GB and seconds for 64 prompts of SmolLM2.
    """

    def gather(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].contiguous(), *inputs[1:])

    model.get_output_embeddings().register_forward_pre_hook(gather)


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: the generation config's, and the tokenizer's own."""
    ended = model.generation_config.eos_token_id
    ids = set(ended if isinstance(ended, list) else [ended])
    ids.add(tokenizer.eos_token_id)
    return frozenset(int(i) for i in ids if i is not None)
