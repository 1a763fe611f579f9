"""One optimiser step's gradient: packs forward and backward, until the masters hold all of it.

The step's rows are split into packs to fit in memory; the objective's totals cover the whole step,
so the sum over packs is the gradient of one loss. A loss that couples rows needs every row's
log-probs before any gradient: they are collected in a first pass without gradient, the loss is
differentiated with respect to them, and a second pass carries that to the parameters (gradient
caching: Gao et al. 2021, arXiv 2101.06983, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from prefkit.core.errors import EnvironmentFault
from prefkit.policy.layout import Layout
from prefkit.policy.logp_store import Floats
from prefkit.policy.logps import TokenLogps
from prefkit.policy.trees import Tree
from prefkit.training.lanes import Lanes
from prefkit.training.masters import Masters, in_one_block
from prefkit.training.objective import Objective, Scored, Totals
from prefkit.training.packs import Pack, halved, make_pack, packs_of_ranks, size_of
from prefkit.training.ranks import Ranks
from prefkit.training.rows import Row
from prefkit.training.tables import Table

ScoreFunction = Callable[..., TokenLogps]


class Gradient:
    """Turns rows into gradients in ``masters``.

    score: ``Scorer``, or what wraps it. reference: log-probs by key, or a function that scores
    trees in the step (ema). budget: tokens of a pack; it shrinks when memory runs out.
    """

    def __init__(
        self,
        objective: Objective,
        score: ScoreFunction,
        masters: Masters,
        *,
        layout: Layout,
        budget: int,
        device: torch.device,
        dtype: torch.dtype,
        reference: Mapping[bytes, Floats] | Callable[[Sequence[Tree]], Mapping[bytes, Floats]],
        ranks: Ranks,
        lanes: Lanes,
    ) -> None:
        self.objective, self.score, self.masters = objective, score, masters
        self.layout, self.budget = layout, budget
        self.device, self.dtype = device, dtype
        self.reference, self.ranks, self.lanes = reference, ranks, lanes
        self.scale = 1.0

    def collect(self, rows: Sequence[Row]) -> list[Table]:
        """Gather the gradient of a step over ``rows`` (all ranks'); the tables of this rank."""
        totals = Totals.of(rows)
        self.masters.zero()
        packs = self.packs(rows)
        coupled = self.objective.couples_rows and (len(packs) > 1 or self.ranks.world > 1)
        upstream = self._first_pass(rows, packs, totals) if coupled else None
        step = _Step(rows, totals, upstream)
        lanes = self.lanes.split([self._tokens(rows, part) for part in packs])
        tables: dict[int, Table | None] = {}
        for _, (sums, done) in self.lanes.map(partial(self._add_up, step, packs), lanes):
            self.masters.add(sums)
            tables.update(done)
        found: list[Table] = []
        for index, part in enumerate(packs):
            table = tables[index]
            if table is None:
                found += self._in_halves(step, part)
            elif part.counts:
                found.append(table)
        return found

    def packs(self, rows: Sequence[Row]) -> list[Part]:
        """This rank's packs.

        Sharded layers need every rank to run as many packs: one that has fewer scores the smallest
        row again, which then counts for nothing.
        """
        sizes = [size_of(row.tree, self.layout) for row in rows]
        groups = packs_of_ranks(sizes, self.budget, self.ranks.world)
        mine = [Part(group) for group in groups[self.ranks.rank]]
        if not self.ranks.sharded:
            return mine
        idle = max(len(group) for group in groups) - len(mine)
        return mine + [Part([sizes.index(min(sizes))], counts=False)] * idle

    def _add_up(
        self, step: _Step, packs: Sequence[Part], members: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[int, Table | None]]:
        """The gradients of some packs, one after the other, added up by name, and the table of
        each; None where memory ran out."""
        sums: dict[str, Tensor] = {}
        tables: dict[int, Table | None] = {}
        for index in members:
            done = self._try(step, packs[index])
            tables[index] = None if done is None else done.table
            if done is not None:
                first = self.lanes.n > 1 and not sums
                gradients = in_one_block(done.gradients) if first else done.gradients
                self.masters.add(gradients, 1.0 / self.scale, sums)
        return sums, tables

    def _in_halves(self, step: _Step, part: Part) -> list[Table]:
        """The tables of a pack whose memory ran out, computed in halves; their gradient, which is
        that of the pack, is in the masters."""
        halves = self._halves(step.rows, part)
        if self.objective.couples_rows and step.upstream is None:
            # All rows were in this pack; now none of the parts sees all of them.
            step = replace(step, upstream=self._first_pass(step.rows, halves, step.totals))
        tables: list[Table] = []
        for half in halves:
            done = self._try(step, half)
            if done is None:
                tables += self._in_halves(step, half)
            else:
                self.masters.add(done.gradients, 1.0 / self.scale)
                tables.append(done.table)
        return tables

    def _halves(self, rows: Sequence[Row], part: Part) -> list[Part]:
        """A pack for which there was not enough memory, as two; later ones will be smaller."""
        tokens = self._tokens(rows, part)
        self.budget = max(1, min(self.budget, tokens) // 2)
        if len(part.members) == 1 or self.ranks.world > 1:
            raise _out_of_memory(rows[part.members[0]], tokens, self.budget, self.ranks)
        return [Part(half) for half in halved(part.members)]

    def _try(self, step: _Step, part: Part) -> _Done | None:
        """The gradient of one pack; None where memory ran out."""
        try:
            return self._backward(step, part)
        except torch.OutOfMemoryError:
            pass
        self._forget()  # by now no traceback holds the pack's tensors
        return None

    def _forget(self) -> None:
        """Nothing is left of a pack that was not finished."""
        self.masters.drop()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tokens(self, rows: Sequence[Row], part: Part) -> int:
        return sum(size_of(rows[i].tree, self.layout) for i in part.members)

    def _backward(self, step: _Step, part: Part) -> _Done:
        members, upstream = part.members, step.upstream
        chosen = [step.rows[i] for i in members]
        if upstream is None:
            tokens, scored = self._scored(self.make_pack(chosen))
            parts, values = self.objective.parts(scored, step.totals)
            root = parts.sum()
        else:
            with _drawing_from(upstream.draws.get(tuple(members)), self.device):
                tokens, scored = self._scored(self._pack(chosen, upstream.reference))
            policy = scored.logps.policy  # as wide as its own longest list
            root = (policy * upstream.gradient[members, : policy.shape[1]]).sum()
            values = upstream.values[members]
            parts = upstream.parts * (len(members) / len(step.rows))
        gradients = self.masters.differentiate(
            root * (self.scale if part.counts else 0.0), sharded=self.ranks.sharded
        )
        table = Table(
            rows=tuple(chosen),
            parts=parts.detach(),
            values=values.detach(),
            policy=scored.logps.policy.detach(),
            reference=scored.logps.reference,
            entropy=None if tokens.entropy is None else tokens.entropy.sum(),
            n_fed=self._tokens(step.rows, part),
        )
        return _Done(table, gradients)

    def _scored(self, pack: Pack, *, statistics: bool = False) -> tuple[TokenLogps, Scored]:
        tokens = self.score(pack.trees, statistics=statistics or self.objective.wpo)
        return tokens, self.objective.scored(pack, tokens)

    def make_pack(self, rows: Sequence[Row]) -> Pack:
        """The pack of ``rows`` with their reference log-probs."""
        return self._pack(rows, self._reference_of(rows))

    def _pack(self, rows: Sequence[Row], reference: Mapping[bytes, Floats] | None) -> Pack:
        return make_pack(rows, device=self.device, dtype=self.dtype, reference=reference)

    def _reference_of(self, rows: Sequence[Row]) -> Mapping[bytes, Floats] | None:
        """What has the reference log-probs of ``rows``, and maybe more."""
        if not self.objective.needs_reference:
            return None
        known = self.reference
        return known([row.tree for row in rows]) if callable(known) else known

    def _first_pass(self, rows: Sequence[Row], packs: list[Part], totals: Totals) -> _Upstream:
        """The loss of the whole step and its gradient with respect to the policy's sums."""
        sums = self._all_sums(rows, packs)
        leaf = sums.policy.requires_grad_(True)
        scored = self.objective.rescored(sums.pack, leaf, sums.wpo)
        parts, values = self.objective.parts(scored, totals)
        (gradient,) = torch.autograd.grad(parts.sum(), leaf)
        return _Upstream(gradient, parts.detach(), values, sums.reference, sums.draws)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> Table:
        """``rows`` (all ranks') as one step's table; no gradient."""
        sums = self._all_sums(rows, self.packs(rows), statistics=not self.objective.rewards)
        scored = self.objective.rescored(sums.pack, sums.policy, sums.wpo)
        parts, values = self.objective.parts(scored, Totals.of(rows))
        reference = scored.logps.reference
        return Table(tuple(rows), parts, values, sums.policy, reference, sums.entropy, 0)

    @torch.no_grad()
    def _all_sums(
        self, rows: Sequence[Row], packs: list[Part], *, statistics: bool = False
    ) -> _Sums:
        """All rows scored without gradient, whatever packs and ranks they are in."""
        known: dict[int, tuple[list[float], float, float]] = {}
        moving: dict[bytes, Floats] = {}
        draws: dict[tuple[int, ...], Tensor] = {}
        score = partial(self._try_score, rows, statistics)
        while packs:
            waiting: list[Part] = []
            for part, found in self.lanes.map(score, packs):
                if found is None:
                    waiting += self._halves(rows, part)
                elif part.counts:
                    draws[tuple(part.members)] = found.before
                    known.update(zip(part.members, found.sums, strict=True))
                    moving.update(found.moving)
            packs = waiting
        for theirs, their_moving in self.ranks.gather((known, moving)):
            known.update(theirs)
            moving.update(their_moving)
        reference = moving if callable(self.reference) else self._reference_of(rows)
        pack = self._pack(rows, reference)
        width = pack.n_tokens.shape[1]
        policy, wpo, entropy = zip(*(known[i] for i in range(len(rows))), strict=True)
        sums = [row + [0.0] * (width - len(row)) for row in policy]
        return _Sums(
            pack,
            self._tensor(sums),
            self._tensor(wpo) if self.objective.wpo else None,
            self._tensor(sum(entropy)) if statistics else None,
            reference,
            draws,
        )

    @torch.no_grad()  # a lane's thread does not know of its caller's
    def _try_score(self, rows: Sequence[Row], statistics: bool, part: Part) -> _Found | None:
        """One pack's sums; None where memory ran out."""
        chosen = [rows[i] for i in part.members]
        before = random_state(self.device)
        try:
            reference = self._reference_of(chosen)
            tokens, scored = self._scored(self._pack(chosen, reference), statistics=statistics)
        except torch.OutOfMemoryError:
            scored = None
        if scored is None:
            self._forget()  # by now no traceback holds the pack's tensors
            return None
        policy = scored.logps.policy.tolist()
        weights = [1.0] * len(chosen) if scored.wpo is None else scored.wpo.tolist()
        # A sum over the pack: only the sum over all rows is asked for.
        entropy = [0.0] * len(chosen)
        if tokens.entropy is not None:
            entropy[0] = float(tokens.entropy.sum())
        moving = reference if callable(self.reference) and reference is not None else {}
        return _Found(list(zip(policy, weights, entropy, strict=True)), moving, before)

    def _tensor(self, values: Sequence[object] | float) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)


@dataclass(frozen=True, slots=True)
class Part:
    """A pack as indices into the step's rows; one that does not count only keeps step."""

    members: list[int]
    counts: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """What all packs of a step share. upstream: where a first pass has differentiated the loss."""

    rows: Sequence[Row]
    totals: Totals
    upstream: _Upstream | None


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """A pack's table and its gradient by name."""

    table: Table
    gradients: dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """sums: of each row its answers' sums, its WPO weight and entropy. moving: what the ema
    reference said of them. before: the random state that the pack drew from."""

    sums: list[tuple[list[float], float, float]]
    moving: Mapping[bytes, Floats]
    before: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """pack: labels of all rows. policy: (rows, n). wpo: (rows,) or None. entropy: () its sum over
    scored tokens, or None. reference: log-probs of all rows by key, or None. draws: the random
    state before each pack, by its members."""

    pack: Pack
    policy: Tensor
    wpo: Tensor | None
    entropy: Tensor | None
    reference: Mapping[bytes, Floats] | None
    draws: Mapping[tuple[int, ...], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class _Upstream:
    """gradient: (rows, n), d(step's loss) / d(policy's sums). parts: (parts,), what the step's
    loss is the sum of. values: (rows,) losses. reference: log-probs by key, or None. draws: so
    that the second pass has the dropout of the first."""

    gradient: Tensor
    parts: Tensor
    values: Tensor
    reference: Mapping[bytes, Floats] | None
    draws: Mapping[tuple[int, ...], Tensor]


def random_state(device: torch.device) -> Tensor:
    """The state that dropout on ``device`` draws from next."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Draw from ``state`` next."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@contextmanager
def _drawing_from(state: Tensor | None, device: torch.device) -> Generator[None]:
    """Inside, draws are those of ``state``, if one is given; afterwards they go on as before, so
    that no later step draws the same again."""
    kept = random_state(device)
    if state is not None:
        set_random_state(device, state)
    try:
        yield
    finally:
        if state is not None:
            set_random_state(device, kept)


def _out_of_memory(row: Row, tokens: int, budget: int, ranks: Ranks) -> EnvironmentFault:
    if ranks.world > 1:
        return EnvironmentFault(
            f"rank {ranks.rank}: not enough memory for a pack of {tokens} tokens",
            hint=f"start again with --set tokens_at_once={budget}; it goes on from the last "
            "checkpoint",
        )
    return EnvironmentFault(
        f"row {row.id}: not enough memory for its {tokens} tokens alone",
        hint="lower max_length, set activation_checkpointing=true, or choose a smaller model",
    )
