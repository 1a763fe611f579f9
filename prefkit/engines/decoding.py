"""Continuous batched decoding of a causal language model that transformers loaded.

Answers differ in length, so a batch that waits for its longest row wastes most of its work. Here
a finished row leaves the batch at once and waiting rows take its place. The prompts' common
prefix (the chat template's system turn) is computed once, and the n samples of one prompt share
its prefill.

Layout of the key-value cache: ``[prefix | body]``, where an adapter's virtual tokens are the first
of the prefix; every row is right-aligned in the body, and a
boolean mask tells the padding on its left. Position ids are explicit, so padding shifts nothing.
Knows tensors and token ids; knows no prompt, file or text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

# Keys and values of one layer: (1, kv heads, T, head size) each.
KeysValues = tuple[torch.Tensor, torch.Tensor]

# Waiting rows are admitted in groups of at least batch / REFILL, so that prefill stays efficient.
REFILL = 4
# Below this many shared tokens a prefix saves less than it costs in bookkeeping.
SHORTEST_PREFIX = 8
# The largest nucleus looked for before a full sort: almost always enough at top_p < 1.
NUCLEUS = 1024


@dataclass(frozen=True, slots=True)
class Continuation:
    """One prompt to continue n times. seeds: one for each sample; temperature 0 is greedy."""

    index: int
    ids: tuple[int, ...]
    seeds: tuple[int, ...]
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(slots=True)
class Row:
    """One answer being written. uniforms: the draws of every step, fixed by the row's own seed."""

    index: int
    sample: int
    temperature: float
    top_p: float
    max_tokens: int
    uniforms: list[float]
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    stopped: bool = False

    @property
    def done(self) -> bool:
        return self.stopped or len(self.tokens) >= self.max_tokens


class Decoder:
    """Writes answers with one model; ``run`` may be called again."""

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: frozenset[int],
        batch_size: int,
        share_prefix: bool = True,
        virtual: Sequence[KeysValues] = (),
    ) -> None:
        self.model = model
        self.device = model.device
        self.stop_ids = stop_ids
        self.batch_size = batch_size
        self.share_prefix = share_prefix
        self.virtual = list(virtual)
        self.n_virtual = virtual[0][0].shape[-2] if virtual else 0

    @torch.inference_mode()
    def run(self, sequences: Sequence[Continuation]) -> Iterator[Row]:
        """Yield each row when it is done, in order of finishing."""
        # Similar lengths together: least padding in prefill.
        waiting = deque(sorted(sequences, key=lambda s: (-len(s.ids), s.index)))
        prefix = self._prefix(waiting)
        batch = Batch(self.n_virtual + len(prefix), self.device)
        prefix_cache = self._prefill_prefix(prefix)
        while waiting or batch.rows:
            group = self._next_group(waiting, len(batch.rows))
            if group:
                logits = self._admit(batch, group, prefix, prefix_cache)
                yield from self._advance(batch, logits, first=len(batch.rows) - logits.shape[0])
                continue
            logits = self._step(batch)
            yield from self._advance(batch, logits, first=0)

    def _prefix(self, sequences: Sequence[Continuation]) -> tuple[int, ...]:
        """The tokens that all prompts begin with, at least one token short of each."""
        if not self.share_prefix or len(sequences) < 2:
            return ()
        # What the smallest and the largest share in order, all between them share.
        first, last = min(s.ids for s in sequences), max(s.ids for s in sequences)
        shortest = min(len(s.ids) for s in sequences) - 1
        n_same = next((i for i in range(shortest) if first[i] != last[i]), shortest)
        common = first[:n_same]
        return common if len(common) >= SHORTEST_PREFIX else ()

    def _next_group(self, waiting: deque[Continuation], n_busy: int) -> list[Continuation]:
        """The prompts to admit now: whole prompts only, none while the free room is small."""
        free = self.batch_size - n_busy
        if not waiting or (n_busy and free < max(1, self.batch_size // REFILL)):
            return []
        group: list[Continuation] = []
        while waiting and (len(waiting[0].seeds) <= free or not (group or n_busy)):
            free -= len(waiting[0].seeds)
            group.append(waiting.popleft())
        return group

    def _prefill_prefix(self, prefix: tuple[int, ...]) -> list[KeysValues]:
        if not prefix:
            return self.virtual
        ids = torch.tensor([prefix], device=self.device)
        cache = filled_cache(self.virtual, 1)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def _admit(
        self,
        batch: Batch,
        group: list[Continuation],
        prefix: tuple[int, ...],
        prefix_cache: list[KeysValues],
    ) -> torch.Tensor:
        """Prefill the group and add its rows to the batch; next-token logits (new rows, V)."""
        bodies = [s.ids[len(prefix) :] for s in group]
        n_prefix = batch.n_prefix
        width = max(len(body) for body in bodies)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        mask = torch.zeros(len(group), n_prefix + width, dtype=torch.bool)
        mask[:, :n_prefix] = True
        for row, body in enumerate(bodies):
            ids[row, width - len(body) :] = torch.tensor(body)
            mask[row, n_prefix + width - len(body) :] = True
        mask = mask.to(self.device)
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, n_prefix:]
        cache = filled_cache(prefix_cache, len(group))
        out = self.model(
            input_ids=ids.to(self.device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        repeats = torch.tensor([len(s.seeds) for s in group], device=self.device)
        rows = [row for sequence in group for row in new_rows(sequence)]
        batch.add(rows, cache, mask, positions[:, -1] + 1, repeats)
        return out.logits[:, -1].float().repeat_interleave(repeats, dim=0)

    def _step(self, batch: Batch) -> torch.Tensor:
        """One token for every row of the batch: logits (B, V), fp32."""
        batch.mask = functional.pad(batch.mask, (0, 1), value=True)
        out = self.model(
            input_ids=batch.last[:, None],
            attention_mask=batch.mask,
            position_ids=batch.positions[:, None],
            past_key_values=batch.cache,
            use_cache=True,
        )
        batch.positions = batch.positions + 1
        return out.logits[:, -1].float()

    def _advance(self, batch: Batch, logits: torch.Tensor, first: int) -> Iterator[Row]:
        """Draw a token for the rows from ``first`` on; finished rows leave and are yielded."""
        rows = batch.rows[first:]
        tokens, logprobs = draw(logits, rows)
        batch.last = torch.cat([batch.last[:first], tokens])
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.logprob += logprob
            row.stopped = token in self.stop_ids
            row.tokens.append(token)
        finished = [row for row in batch.rows if row.done]
        if finished:
            batch.keep([i for i, row in enumerate(batch.rows) if not row.done])
        yield from finished


class Batch:
    """The rows being decoded with their cache. mask: (B, W) true where a column holds a token."""

    def __init__(self, n_prefix: int, device: Any) -> None:
        self.n_prefix = n_prefix
        self.rows: list[Row] = []
        self.cache: Any = None
        self.mask = torch.zeros(0, 0, dtype=torch.bool, device=device)
        self.positions = torch.zeros(0, dtype=torch.long, device=device)
        self.last = torch.zeros(0, dtype=torch.long, device=device)

    def add(
        self,
        rows: list[Row],
        cache: Any,
        mask: torch.Tensor,
        positions: torch.Tensor,
        repeats: torch.Tensor,
    ) -> None:
        """Append rows: each prompt of ``cache`` (prompts, H, W, D) repeated for its samples."""
        old, width = self.mask.shape[1], mask.shape[1]
        target = max(old, width)
        for index, layer in enumerate(cache.layers):
            for name in ("keys", "values"):
                new = self._widen(getattr(layer, name).repeat_interleave(repeats, 0), target, -2)
                if self.rows:
                    held = self._widen(getattr(self.cache.layers[index], name), target, -2)
                    new = torch.cat([held, new])
                setattr(layer, name, new)
        new_mask = self._widen(mask.repeat_interleave(repeats, 0), target, -1)
        new_positions = positions.repeat_interleave(repeats, 0)
        if self.rows:
            new_mask = torch.cat([self._widen(self.mask, target, -1), new_mask])
            new_positions = torch.cat([self.positions, new_positions])
        self.cache, self.mask, self.positions = cache, new_mask, new_positions
        self.rows = self.rows + rows

    def keep(self, indices: list[int]) -> None:
        """Only these rows stay; body columns that no row uses any more are dropped."""
        self.rows = [self.rows[i] for i in indices]
        at = torch.tensor(indices, dtype=torch.long, device=self.mask.device)
        mask = self.mask[at]
        used = mask[:, self.n_prefix :].any(0).long()
        # argmax gives the first true column; the body of a right-aligned batch has no inner holes.
        unused = int(used.argmax()) if indices and used.numel() else 0
        columns = torch.arange(mask.shape[1], device=mask.device)
        columns = torch.cat([columns[: self.n_prefix], columns[self.n_prefix + unused :]])
        self.mask, self.positions, self.last = mask[:, columns], self.positions[at], self.last[at]
        for layer in self.cache.layers:
            for name in ("keys", "values"):
                kept = getattr(layer, name)[at]
                setattr(layer, name, kept[:, :, columns] if unused else kept)

    def _widen(self, tensor: torch.Tensor, width: int, dim: int) -> torch.Tensor:
        """Zeros between prefix and body until ``dim`` has ``width`` columns."""
        missing = width - tensor.shape[dim]
        if not missing:
            return tensor
        shape = list(tensor.shape)
        shape[dim] = missing
        head, body = tensor.split([self.n_prefix, tensor.shape[dim] - self.n_prefix], dim)
        return torch.cat([head, tensor.new_zeros(shape), body], dim)


def new_cache() -> Any:
    """An empty cache of plain full-length layers (right for sliding windows too: see the mask)."""
    from transformers.cache_utils import DynamicCache

    return DynamicCache()


def filled_cache(layers: Sequence[KeysValues], n_rows: int) -> Any:
    """A cache in which each of ``n_rows`` rows holds the keys and values of ``layers``."""
    cache = new_cache()
    for index, (keys, values) in enumerate(layers):
        shape = (n_rows, -1, -1, -1)
        cache.update(keys.expand(shape), values.expand(shape), index)
    return cache


def new_rows(sequence: Continuation) -> list[Row]:
    """One row a sample; its uniforms come from its own generator, so neighbours change nothing."""
    rows: list[Row] = []
    for sample, seed in enumerate(sequence.seeds):
        uniforms: list[float] = []
        if sequence.temperature > 0:
            generator = torch.Generator().manual_seed(seed)
            draws = torch.rand(sequence.max_tokens, generator=generator, dtype=torch.float64)
            uniforms = draws.tolist()
        rows.append(
            Row(
                sequence.index,
                sample,
                sequence.temperature,
                sequence.top_p,
                sequence.max_tokens,
                uniforms,
            )
        )
    return rows


def draw(logits: torch.Tensor, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row from logits (B, V) fp32: tokens (B,) and log-probabilities (B,) in nats.

    The log-probability is the model's own (temperature 1, whole vocabulary), as vLLM reports it.
    """
    tokens = logits.argmax(-1)
    warm = [i for i, row in enumerate(rows) if row.temperature > 0]
    if warm:
        at = torch.tensor(warm, device=logits.device)
        chosen = [rows[i] for i in warm]
        temperature = torch.tensor([r.temperature for r in chosen], device=logits.device)
        uniforms = torch.tensor([r.uniforms[len(r.tokens)] for r in chosen], device=logits.device)
        top_p = torch.tensor([r.top_p for r in chosen], device=logits.device)
        probabilities = torch.softmax(logits[at] / temperature[:, None], -1)
        tokens[at] = invert(probabilities, top_p, uniforms)
    picked = logits.gather(1, tokens[:, None]).squeeze(1)
    return tokens, picked - torch.logsumexp(logits, -1)


def invert(
    probabilities: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor
) -> torch.Tensor:
    """The token at each row's uniform in [0, 1) of the (nucleus-restricted) distribution (B, V).

    The nucleus is the shortest run of most probable tokens whose mass reaches top_p
    (arXiv 1904.09751, section 3.1).
    """
    if bool((top_p >= 1).all()):
        masses = probabilities.cumsum(-1)
        return _at(masses, uniforms * masses[:, -1])
    values, order = probabilities.topk(min(NUCLEUS, probabilities.shape[-1]), dim=-1)
    if bool((values.sum(-1) < top_p).any()):
        values, order = probabilities.sort(dim=-1, descending=True)
    masses = values.cumsum(-1)
    outside = (masses - values >= top_p[:, None]) & (top_p < 1)[:, None]
    masses = values.masked_fill(outside, 0.0).cumsum(-1)
    return order.gather(1, _at(masses, uniforms * masses[:, -1])[:, None]).squeeze(1)


def _at(masses: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    found = torch.searchsorted(masses, points.to(masses.dtype)[:, None], right=True).squeeze(1)
    # Rounding can put a point on the total mass: the last token with any mass takes it.
    last = torch.searchsorted(masses, masses[:, -1:].contiguous()).squeeze(1)
    return torch.minimum(found, last)
