"""A reward model as rater: two rewards, and P(a wins) = σ(r_a − r_b).

Answers to one prompt are scored together, each of them once however many comparisons it is in. An
answer that the model cannot take whole has no reward: its comparisons get no vote and are counted
with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.core.errors import DataError, ModelError
from prefkit.core.records import Choice, Comparison, Completion, Prompt, Vote
from prefkit.judging.raters import RaterContext, register_rater
from prefkit.judging.votes import Judged, machine_name, machine_vote
from prefkit.policy.resolve import resolve_model

if TYPE_CHECKING:
    from prefkit.policy.load import Policy
    from prefkit.policy.trees import Tree

UNREADABLE = "the reward model's chat template does not take the prompt or an answer"
TOO_LONG = "an answer is longer than the reward model reads"
NOT_FINITE = "a reward is not finite"

Reward = float | str  # or why there is none


@register_rater("reward")
class RewardRater:
    """The rater ``reward``: the model, or the adapter over it, that bradley_terry trained."""

    def __init__(self, context: RaterContext) -> None:
        self.context = context

    def compare(self, comparisons: Sequence[Comparison]) -> Judged:
        """One vote for each comparison whose answers both have a reward; the others counted."""
        from prefkit.policy.load import release_memory
        from prefkit.policy.rewards import load_reward_model

        settings = self.context.settings
        source = resolve_model(settings.model, progress=self.context.progress)
        policy = load_reward_model(
            source,
            adapter=None if settings.adapter is None else Path(settings.adapter).expanduser(),
            dtype=settings.engine.dtype,
            device=settings.engine.device,
            trained=True,
        )
        name = machine_name("reward", settings.adapter or settings.model)
        identity = {"model": policy.digest}
        rewards = self._rewards(policy, comparisons)
        del policy
        release_memory()
        votes: list[Vote] = []
        failed: Counter[str] = Counter()
        for comparison in comparisons:
            pair = rewards[comparison.a.id], rewards[comparison.b.id]
            missing = next((reward for reward in pair if isinstance(reward, str)), None)
            if missing is not None:
                failed[missing] += 1
                continue
            votes.append(reward_vote(comparison, name, *map(float, pair), identity=identity))
        return Judged(votes, dict(failed))

    def _rewards(self, policy: Policy, comparisons: Sequence[Comparison]) -> dict[str, Reward]:
        """The reward of every completion by its id."""
        from prefkit.policy.layout import choose_layout
        from prefkit.policy.packing import tokens_at_once
        from prefkit.policy.rewards import score_trees, split_tree

        asked = _by_prompt(comparisons)
        limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
        found: dict[str, Reward] = {}
        trees: list[Tree] = []
        names: list[str] = []
        for prompt, answers in asked:
            for tree, ids in _trees(policy.tokenizer, prompt, answers, limit, found):
                names += ids
                trees.append(tree)
        if not trees:
            return found
        layout = choose_layout(policy.model, longest=max(tree.longest for tree in trees))
        budget = tokens_at_once(None, policy.model.device, policy.model.dtype, layout)
        scored = score_trees(
            policy.model,
            [part for tree in trees for part in split_tree(tree, budget)],
            layout=layout,
            budget=budget,
            progress=self.context.progress,
        )
        values = [value for tree in scored for value in tree]
        for name, value in zip(names, values, strict=True):
            found[name] = value if math.isfinite(value) else NOT_FINITE
        return found


def _by_prompt(comparisons: Sequence[Comparison]) -> list[tuple[Prompt, list[Completion]]]:
    """Each prompt with its answers, every one once, in the order of the comparisons."""
    prompts: dict[str, Prompt] = {}
    answers: dict[str, dict[str, Completion]] = {}
    for comparison in comparisons:
        prompts[comparison.prompt.id] = comparison.prompt
        group = answers.setdefault(comparison.prompt.id, {})
        group.update({comparison.a.id: comparison.a, comparison.b.id: comparison.b})
    return [(prompt, list(answers[key].values())) for key, prompt in prompts.items()]


def _trees(
    tokenizer: object,
    prompt: Prompt,
    answers: Sequence[Completion],
    limit: int | None,
    found: dict[str, Reward],
) -> list[tuple[Tree, list[str]]]:
    """The trees of one prompt with the ids of their branches; into ``found`` goes why an answer is
    in none."""
    from prefkit.policy.template import encode_tree
    from prefkit.policy.trees import Tree

    try:
        tree = encode_tree(tokenizer, prompt, [answer.messages for answer in answers])
    except (DataError, ModelError):
        if len(answers) == 1:
            found[answers[0].id] = UNREADABLE
            return []
        # One of them may be at fault: each alone.
        alone = (_trees(tokenizer, prompt, [answer], limit, found) for answer in answers)
        return [pair for pairs in alone for pair in pairs]
    lengths = [len(tree.prompt) + len(branch.ids) for branch in tree.branches]
    fits = [limit is None or length <= limit for length in lengths]
    found.update({a.id: TOO_LONG for a, fit in zip(answers, fits, strict=True) if not fit})
    branches = tuple(b for b, fit in zip(tree.branches, fits, strict=True) if fit)
    ids = [answer.id for answer, fit in zip(answers, fits, strict=True) if fit]
    return [(Tree(tree.prompt, branches), ids)] if branches else []


def reward_vote(
    comparison: Comparison,
    rater: str,
    a: float,
    b: float,
    *,
    identity: Mapping[str, object],
) -> Vote:
    """The vote that two rewards amount to, both finite: p_a = σ(a − b).

    strength: 0 for equal rewards, which are a tie, else 1 for a confidence below 1/3, 2 below 2/3,
    3 above. confidence: |2 p_a − 1|.
    """
    p_a = 0.5 * (1 + math.tanh(0.5 * (a - b)))
    choice: Choice = "tie" if a == b else "a" if a > b else "b"
    confidence = abs(2 * p_a - 1)
    return machine_vote(
        comparison,
        rater,
        choice,
        kind="reward",
        strength=0 if a == b else min(3, 1 + int(3 * confidence)),
        p_a=p_a,
        confidence=confidence,
        aspects={"reward_a": f"{a:.6g}", "reward_b": f"{b:.6g}"},
        settings=identity,
    )
