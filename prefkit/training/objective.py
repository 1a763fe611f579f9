"""What a step minimises: losses with their weights, modifiers and constraints over the same rows.

    L = Σ_k c_k · Σ_i w_i v_ki / D_k  +  Σ_i w_i penalty_i / Σ_i w_i

c: a loss's weight in the mixture; w: a row's weight; v: the loss of a row. D is Σ w over the rows
of the optimiser step, or Σ w·tokens for a loss that is a mean over tokens. D is known before the
step and covers all packs and ranks: however the rows are split, the sum of the shares is L.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from prefkit.core.errors import ConfigError, TrainingError
from prefkit.core.records import TrainRow
from prefkit.policy.logps import TokenLogps
from prefkit.policy.trees import Branch
from prefkit.training.losses import Divergence, Logps, Loss, TargetKind, Targets, losses
from prefkit.training.losses.modifiers import ld_dpo_sums, wpo_weights
from prefkit.training.packs import Pack
from prefkit.training.rows import Row
from prefkit.training.settings import TrainSettings

Constraint = Callable[[Logps, Sequence[TrainRow]], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """A loss of the mixture with its weight and all its parameters."""

    loss: Loss
    weight: float
    params: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a step's sums are divided by: Σ w, and Σ w·tokens of the likelier answers."""

    weight: float
    tokens: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Totals:
        """The totals of an optimiser step."""
        return cls(
            sum(row.weight for row in rows),
            sum(row.weight * _likelier(row).n_scored for row in rows),
        )


def _likelier(row: Row) -> Branch:
    """The answer whose likelihood a loss over tokens takes."""
    first, *others = row.tree.branches
    return others[0] if others and row.p < 0.5 else first


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rows with what the policy says of them. weight: (rows,). wpo: (rows,) or None."""

    rows: Sequence[Row]
    logps: Logps
    targets: Targets
    weight: Tensor
    wpo: Tensor | None


@dataclass(frozen=True, slots=True)
class Objective:
    """The terms and modifiers of a run; pure functions of what is scored.

    chosen: the kind of rows it is used on, None for the first of ``targets``.
    """

    terms: tuple[Term, ...]
    divergence: Divergence = "reverse_kl"
    divergence_alpha: float = 0.5
    ld_alpha: float | None = None
    wpo: bool = False
    constraints: tuple[Constraint, ...] = field(default=())
    chosen: TargetKind | None = None

    @property
    def targets(self) -> tuple[TargetKind, ...]:
        """The kinds of rows that all its losses take, the first loss's own before others."""
        first, *others = (term.loss.targets for term in self.terms)
        return tuple(kind for kind in first if all(kind in other for other in others))

    @property
    def target(self) -> TargetKind:
        """The kind of rows it takes."""
        return self.chosen or self.targets[0]

    def taking(self, target: TargetKind) -> Objective:
        """The same on rows of kind ``target``; ConfigError where modifiers do not fit them."""
        if target != "pair" and (self.wpo or self.ld_alpha is not None):
            raise ConfigError(
                f"wpo and ld_alpha are defined on pairs; {self.terms[0].loss.name} takes "
                f"{target} rows",
                hint="leave them out",
            )
        return replace(self, chosen=target)

    @property
    def rewards(self) -> bool:
        """Whether the model gives rewards (a reward model) rather than log-probs."""
        return self.terms[0].loss.rewards

    @property
    def needs_reference(self) -> bool:
        """Whether a reference has to be scored."""
        return any(t.loss.needs_reference for t in self.terms) or bool(self.constraints)

    @property
    def needs_mismatch(self) -> bool:
        """Whether each row carries another row's answer (KTO's z0)."""
        return any(term.loss.needs_mismatch for term in self.terms)

    @property
    def couples_rows(self) -> bool:
        """Whether a row's loss depends on the other rows of the optimiser step."""
        return any(term.loss.couples_rows for term in self.terms)

    @property
    def beta(self) -> float:
        """What turns a log-ratio into a reward for display: the shown term's beta, else 1."""
        return self._shown.params.get("beta", 1.0)

    @property
    def per_token(self) -> bool:
        """Whether rewards are means over tokens, as the shown term reads them."""
        return self._shown.loss.per_token

    @property
    def _shown(self) -> Term:
        """The term whose rewards are shown: the first that has a beta, else the first."""
        return next((term for term in self.terms if "beta" in term.params), self.terms[0])

    @property
    def starts_at_ln2(self) -> bool:
        """Whether the loss is ln 2 where policy and reference agree: sigmoid, and nothing else."""
        term = self.terms[0]
        plain = len(self.terms) == 1 and not self.wpo and not self.constraints
        return (
            plain and term.loss.name == "sigmoid" and (term.weight, term.params["margin"]) == (1, 0)
        )

    def scored(self, pack: Pack, tokens: TokenLogps) -> Scored:
        """A pack's rows as the losses take them; tokens: what the policy says of its trees."""
        wpo = None
        if self.wpo:
            if tokens.log_p2 is None:
                raise ValueError("wpo needs the statistics of tree_logps")
            each = wpo_weights(tokens.values, tokens.log_p2, tokens.answer, tokens.n_answers)
            wpo = pack.spread(each, empty=1.0).prod(dim=1)
        policy = pack.spread(self._answer_sums(pack, tokens.values, tokens.answer))
        return self.rescored(pack, policy, wpo)

    def rescored(self, pack: Pack, policy: Tensor, wpo: Tensor | None) -> Scored:
        """The same from the policy's sums (rows, n), and WPO weights (rows,) or None."""
        reference = pack.reference
        if reference is not None:
            reference = pack.spread(self._answer_sums(pack, reference, pack.answer))
        logps = Logps(policy, reference, pack.n_tokens, self.divergence, self.divergence_alpha)
        return Scored(pack.rows, logps, pack.targets, pack.weight, wpo)

    def _answer_sums(self, pack: Pack, values: Tensor, answer: Tensor) -> Tensor:
        """(answers,) sums of per-token values, as LD-DPO counts them if it is asked for."""
        if self.ld_alpha is None:
            return values.new_zeros(len(pack.slot)).index_add(0, answer, values)
        return ld_dpo_sums(values, answer, pack.row_of, len(pack.rows), alpha=self.ld_alpha)

    @property
    def part_names(self) -> tuple[str, ...]:
        """What the loss is the sum of: its terms, then its constraints; repeated names numbered."""
        names = [term.loss.name for term in self.terms]
        names += [_name_of(constraint) for constraint in self.constraints]
        seen: Counter[str] = Counter()
        unique: list[str] = []
        for name in names:
            seen[name] += 1
            unique.append(f"{name}_{seen[name]}" if seen[name] > 1 else name)
        return tuple(unique)

    def parts(self, scored: Scored, totals: Totals) -> tuple[Tensor, Tensor]:
        """These rows' share of the step's loss by part (parts,), whose sum is to be minimised, and
        the loss of each row (rows,) for display."""
        weight = scored.weight if scored.wpo is None else scored.weight * scored.wpo
        parts: list[Tensor] = []
        shown = torch.zeros_like(weight)
        tokens = _likelier_tokens(scored)
        for term in self.terms:
            values = term.loss.function(scored.logps, scored.targets, params=term.params)
            by_token = term.loss.per == "token"
            divisor = totals.tokens if by_token else totals.weight
            parts.append(term.weight * (values @ weight) / divisor)
            shown = shown + term.weight * (values / tokens if by_token else values).detach()
        for constraint in self.constraints:
            penalty = constraint(scored.logps, [row.source for row in scored.rows])
            parts.append((penalty.to(weight) @ scored.weight) / totals.weight)
            shown = shown + penalty.detach()
        return torch.stack(parts), shown

    def check_constraints(self, scored: Scored) -> None:
        """Refuse a constraint of the wrong shape or without a gradient; called before step 1."""
        sources = [row.source for row in scored.rows]
        for constraint in self.constraints:
            name = _name_of(constraint)
            penalty = constraint(scored.logps, sources)
            if not isinstance(penalty, Tensor) or penalty.shape != (len(sources),):
                found = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty)
                raise TrainingError(
                    f"constraint {name} gave {found}; expected a tensor of shape ({len(sources)},)",
                    hint="return one penalty a row",
                )
            if not penalty.requires_grad:
                raise TrainingError(
                    f"constraint {name} has no gradient, so it would change nothing",
                    hint="compute it from logps.policy without .detach(), .item() or numpy",
                )


def _likelier_tokens(scored: Scored) -> Tensor:
    """(rows,): scored tokens of the answers that ``Totals.tokens`` counts, at least 1."""
    tokens = scored.logps.n_tokens[:, 0]
    if scored.logps.n_tokens.shape[1] > 1:
        tokens = tokens.where(scored.targets.p >= 0.5, scored.logps.n_tokens[:, 1])
    return tokens.clamp(min=1)


def _name_of(constraint: Constraint) -> str:
    return getattr(constraint, "__name__", type(constraint).__name__)


def make_objective(settings: TrainSettings, constraints: Sequence[Constraint] = ()) -> Objective:
    """The objective of ``settings``, which have been checked; ConfigError where modifiers or
    constraints do not fit its rows."""
    terms: list[Term] = []
    for name, weight in settings.loss_weights.items():
        loss = losses.get(name)
        given = dict(settings.loss_params)
        if settings.beta is not None:
            given["beta"] = settings.beta
        own = {key: value for key, value in given.items() if key in loss.params}
        terms.append(Term(loss, weight, loss.resolve(own)))
    objective = Objective(
        tuple(terms),
        settings.divergence,
        settings.divergence_alpha,
        settings.ld_alpha,
        settings.wpo,
        tuple(constraints),
    )
    objective.taking(objective.target)
    if objective.rewards and constraints:
        raise ConfigError(
            f"{terms[0].loss.name}: constraints read log-probs, and a reward model has none",
            hint="leave them out",
        )
    return objective
