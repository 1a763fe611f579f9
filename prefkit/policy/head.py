"""Log-probabilities of tokens from hidden states and the language-model head, tile by tile.

log p(t | h) = l_t − log Σ_v exp l_v with l = finish(h Wᵀ + z Bᵀ + b). Logits exist for one tile of
tokens and vocabulary at a time; the log-sum-exp is kept online (arXiv 1805.02867, algorithm 3).
Sums are in fp32, in fp64 for fp64 states. Knows no model: logps.py finds head, scale and cap.

The backward pass of a head that is not trained needs no second look at the logits: the gradient
∂ log p_t/∂h = f'(l_t) W_t − Σ_v p_v f'(l_v) W_v is free of the loss, so the forward sweep gathers
it as flash attention gathers its output (arXiv 2205.14135, algorithm 1), and the backward scales
its rows: two matrix products where recomputing takes three. A trained head recomputes its tiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function


class HeadLogps(NamedTuple):
    """values (N,) in nats with gradient; entropy (N,) and log_p2 (N,) = log Σ_v p_v² without."""

    values: Tensor
    entropy: Tensor | None
    log_p2: Tensor | None


@dataclass(frozen=True, slots=True)
class Tiles:
    """How many tokens and vocabulary entries meet at once."""

    tokens: int
    vocab: int


# 8 MiB of fp32 logits stay near a CPU's cache: with SmolLM2's shapes 640 × 2048 was the fastest
# of 320–640 × 2048–8192 (2026-11-21). A GPU wants fewer and larger launches: 64 MiB.
CPU_TILES, GPU_TILES = Tiles(1024, 2048), Tiles(2048, 8192)


@dataclass(frozen=True, slots=True)
class _Spec:
    """What does not change from tile to tile. keep_grad: gather ∂/∂h in the forward sweep."""

    scale: float
    cap: float | None
    tiles: Tiles
    statistics: bool
    keep_grad: bool


def head_logps(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    low_rank: tuple[Tensor, Tensor] | None = None,
    scale: float = 1.0,
    cap: float | None = None,
    statistics: bool = False,
    tiles: Tiles | None = None,
) -> HeadLogps:
    """log p(targets | hidden), in fp32 or, for fp64 states, fp64.

    hidden (N, H), weight (V, H), bias (V,) or None, targets (N,) long. low_rank adds z Bᵀ to the
    logits, z (N, r) and B (V, r): LoRA on the head. Then logits are multiplied by ``scale`` and,
    with ``cap``, become cap·tanh(logits / cap). Gradients reach every tensor that requires them,
    the weight too. N may be 0.
    """
    z, b = low_rank if low_rank is not None else (None, None)
    trained = any(x is not None and x.requires_grad for x in (weight, bias, z, b))
    keep = torch.is_grad_enabled() and hidden.requires_grad and not trained
    tiles = tiles or (GPU_TILES if hidden.is_cuda else CPU_TILES)
    spec = _Spec(scale, cap, tiles, statistics, keep)
    # Sums decide their own precision: autocast would round the tiles once more.
    with torch.autocast(hidden.device.type, enabled=False):
        return HeadLogps(*_Head.apply(hidden, weight, bias, z, b, targets, spec))


class _Head(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        z: Tensor | None,
        b: Tensor | None,
        targets: Tensor,
        spec: _Spec,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        head = _Linear(hidden, weight, bias, z, b)
        found = [
            _sweep(head.rows(rows), targets[rows], spec)
            for rows in _slices(len(hidden), spec.tiles.tokens)
        ]
        lse = _join(f.lse for f in found)
        values = _join(f.target - f.lse for f in found)
        ctx.spec, ctx.dtype = spec, hidden.dtype
        if spec.keep_grad:
            ctx.save_for_backward(_join(f.grad for f in found))
        else:
            ctx.save_for_backward(hidden, weight, bias, z, b, targets, lse)
        if not spec.statistics:
            return values, None, None
        entropy = _join(f.entropy for f in found)
        log_p2 = _join(f.log_p2 for f in found)
        ctx.mark_non_differentiable(entropy, log_p2)
        return values, entropy, log_p2

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        g: Tensor = upstream[0]
        if ctx.spec.keep_grad:
            (grad,) = ctx.saved_tensors
            return ((grad * g[:, None]).to(ctx.dtype), *[None] * 6)
        hidden, weight, bias, z, b, targets, lse = ctx.saved_tensors
        wanted = _Wanted(*ctx.needs_input_grad[:5])
        with torch.autocast(hidden.device.type, enabled=False):
            grads = _recompute(
                _Linear(hidden, weight, bias, z, b), targets, lse, g, ctx.spec, wanted
            )
        return (*grads, None, None)


@dataclass(frozen=True, slots=True)
class _Linear:
    """The tensors of the head; products of a tile come out in the precision of sums."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    z: Tensor | None
    b: Tensor | None

    @property
    def precision(self) -> torch.dtype:
        """fp64 for fp64 states, else fp32."""
        return torch.float64 if self.hidden.dtype == torch.float64 else torch.float32

    def rows(self, rows: slice) -> _Linear:
        """The head over some of the tokens."""
        z = None if self.z is None else self.z[rows]
        return _Linear(self.hidden[rows], self.weight, self.bias, z, self.b)

    def finished(self, cols: slice, spec: _Spec) -> tuple[Tensor, Tensor | float]:
        """Logits (n, width) of some of the vocabulary, and their slope against the product."""
        logits = self.product(self.hidden, self.weight[cols].T)
        if self.z is not None and self.b is not None:
            logits += self.product(self.z, self.b[cols].T)
        if self.bias is not None:
            logits += self.bias[cols]
        if spec.cap is None:
            return (logits if spec.scale == 1.0 else logits.mul_(spec.scale)), spec.scale
        bent = logits.mul_(spec.scale / spec.cap).tanh_()
        slope = bent.square().neg_().add_(1.0).mul_(spec.scale)
        return bent.mul_(spec.cap), slope

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """left @ right in the operands' precision, summed in the precision of sums."""
        left = left.to(right.dtype)
        if right.dtype == self.precision:
            return left @ right
        if right.is_cuda:
            return torch.mm(left, right, out_dtype=self.precision)
        return (left @ right).to(self.precision)


@dataclass(frozen=True, slots=True)
class _Found:
    """Of a tile of tokens: log Σ exp l, l of the target, and what else was asked for."""

    lse: Tensor
    target: Tensor
    grad: Tensor | None
    entropy: Tensor | None
    log_p2: Tensor | None


def _sweep(head: _Linear, targets: Tensor, spec: _Spec) -> _Found:
    """Once through the vocabulary. The running maximum keeps every exponent at 0 or below."""
    n, precision = len(targets), head.precision
    top = head.hidden.new_full((n,), -torch.inf, dtype=precision)
    total, target, squares, mean = (torch.zeros_like(top) for _ in range(4))
    grad = head.hidden.new_zeros(head.hidden.shape, dtype=precision) if spec.keep_grad else None
    slope_of_target: Tensor | float = torch.zeros_like(top)
    for cols in _slices(len(head.weight), spec.tiles.vocab):
        logits, slope = head.finished(cols, spec)
        here, at = _where(targets, cols)
        target = torch.where(here, logits.gather(1, at).squeeze(1), target)
        new = torch.maximum(top, logits.amax(1))
        shrink = torch.exp(top - new)
        top = new
        p = (
            torch.exp(logits - top[:, None])
            if spec.statistics
            else logits.sub_(top[:, None]).exp_()
        )
        total = total * shrink + p.sum(1)
        if spec.statistics:
            mean = mean * shrink + torch.linalg.vecdot(p, logits)
            squares = squares * shrink.square() + torch.linalg.vecdot(p, p)
        if grad is not None:
            if isinstance(slope, Tensor):
                there = slope.gather(1, at).squeeze(1)
                slope_of_target = torch.where(here, there, slope_of_target)
                p.mul_(slope)
            grad.mul_(shrink[:, None])
            grad += head.product(p, head.weight[cols])
    lse = top + total.log()
    if grad is not None:
        if spec.cap is None:
            grad *= -spec.scale / total[:, None]
            grad += spec.scale * head.weight[targets]
        else:
            grad /= -total[:, None]
            grad += slope_of_target[:, None] * head.weight[targets]
    if not spec.statistics:
        return _Found(lse, target, grad, None, None)
    # H = lse − Σ p l;  log Σ p² = log Σ exp(2 (l − top)) − 2 (lse − top).
    return _Found(lse, target, grad, lse - mean / total, squares.log() - 2 * total.log())


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which tensors of the head need a gradient."""

    hidden: bool
    weight: bool
    bias: bool
    z: bool
    b: bool


def _recompute(
    head: _Linear, targets: Tensor, lse: Tensor, g: Tensor, spec: _Spec, wanted: _Wanted
) -> tuple[Tensor | None, ...]:
    """Gradients of Σ g·log p of every tensor that wants one; logits are computed again."""

    def empty(like: Tensor | None, want: bool, dtype: torch.dtype | None = None) -> Tensor | None:
        return torch.zeros_like(like, dtype=dtype) if want and like is not None else None

    hidden = empty(head.hidden, wanted.hidden, head.precision)
    z = empty(head.z, wanted.z, head.precision)
    weight, bias = empty(head.weight, wanted.weight), empty(head.bias, wanted.bias)
    b = empty(head.b, wanted.b)
    for cols in _slices(len(head.weight), spec.tiles.vocab):
        sums = [
            empty(None if whole is None else whole[cols], whole is not None, head.precision)
            for whole in (weight, bias, b)
        ]
        for rows in _slices(len(targets), spec.tiles.tokens):
            part = head.rows(rows)
            d = _logit_gradient(part, cols, targets[rows], lse[rows], g[rows], spec)
            if hidden is not None:
                hidden[rows] += part.product(d, part.weight[cols])
            if z is not None and part.b is not None:
                z[rows] += part.product(d, part.b[cols])
            if sums[0] is not None:
                sums[0] += part.product(d.T, part.hidden)
            if sums[1] is not None:
                sums[1] += d.sum(0)
            if sums[2] is not None and part.z is not None:
                sums[2] += part.product(d.T, part.z)
        for whole, total in zip((weight, bias, b), sums, strict=True):
            if whole is not None and total is not None:
                whole[cols] = total.to(whole.dtype)
    return (
        None if hidden is None else hidden.to(head.hidden.dtype),
        weight,
        bias,
        None if z is None or head.z is None else z.to(head.z.dtype),
        b,
    )


def _logit_gradient(
    head: _Linear, cols: slice, targets: Tensor, lse: Tensor, g: Tensor, spec: _Spec
) -> Tensor:
    """∂ Σ g·log p / ∂ (product) of a tile: g (1[v = t] − p_v) f'."""
    logits, slope = head.finished(cols, spec)
    d = logits.sub_(lse[:, None]).exp_().mul_(-g[:, None])
    here, at = _where(targets, cols)
    d.scatter_add_(1, at, torch.where(here, g, torch.zeros_like(g))[:, None])
    if isinstance(slope, Tensor) or slope != 1.0:
        d.mul_(slope)
    return d


def _where(targets: Tensor, cols: slice) -> tuple[Tensor, Tensor]:
    """Which targets lie in this tile (n,), and their column (n, 1), 0 for those that do not."""
    here = (targets >= cols.start) & (targets < cols.stop)
    return here, torch.where(here, targets - cols.start, 0)[:, None]


def _slices(n: int, size: int) -> list[slice]:
    """At least one: no tokens are an empty tile."""
    return [slice(start, min(start + size, n)) for start in range(0, max(n, 1), size)]


def _join(parts: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None])
