"""Soft against hard labels under simulated noisy annotators: docs/soft-labels.md is the protocol.

python benchmarks/soft_labels.py            # tuning and ten seeds, prints tables and JSON
python benchmarks/soft_labels.py --quick    # one setting, two seeds: does it run at all
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from scipy.stats import t as student

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from tiny_model import build_tiny_model  # noqa: E402

from prefkit.core.records import Example, Message, Prompt  # noqa: E402
from prefkit.core.rng import derive_rng  # noqa: E402
from prefkit.policy.layout import choose_layout, plan_packs  # noqa: E402
from prefkit.policy.load import load_policy  # noqa: E402
from prefkit.policy.logps import tree_logps  # noqa: E402
from prefkit.policy.template import Exchange, encode_trees  # noqa: E402
from prefkit.policy.trees import Tree  # noqa: E402
from prefkit.training import TrainSettings, train  # noqa: E402

ARMS = ("hard", "soft", "votes")
ERROR_RATES = (0.05, 0.1, 0.2, 0.3, 0.4)
RATES, EPOCHS = (1e-3, 3e-3, 1e-2), (1, 2, 4)
TUNING_SEEDS, SEEDS = (100, 101, 102), tuple(range(10))
N_TRAIN, N_HELD, N_VOTES, BETA = 600, 400, 3, 0.1
WORDS = [a + b for a in ("ka", "lo", "mi", "nu", "re", "so", "ta", "ve") for b in "bdgnr"]


@dataclass(frozen=True)
class Pair:
    """Two answers, what the votes say of them and what is true. a is the first answer."""

    prompt: Prompt
    a: str
    b: str
    p_true: float
    votes: tuple[tuple[bool, float], ...]  # (prefers a, the rater's error rate)


def world(seed: int) -> tuple[list[Pair], list[Pair]]:
    """(training pairs, held-out pairs) of one seed."""
    rng = derive_rng("soft labels", seed)
    utility = {word: rng.gauss(0, 1) for word in WORDS}
    pairs = [_pair(rng, utility) for _ in range(N_TRAIN + N_HELD)]
    return pairs[:N_TRAIN], pairs[N_TRAIN:]


def _pair(rng: random.Random, utility: dict[str, float]) -> Pair:
    asked = Prompt.make([Message.of("user", " ".join(rng.choices(WORDS, k=rng.randint(2, 6))))])
    a, b = (rng.choices(WORDS, k=rng.randint(1, 6)) for _ in range(2))
    gap = 0.8 * (sum(utility[w] for w in a) - sum(utility[w] for w in b))
    p_true = 1 / (1 + math.exp(-gap))
    votes = []
    for error in rng.sample(ERROR_RATES, N_VOTES):
        ideal = rng.random() < p_true
        votes.append((ideal != (rng.random() < error), error))
    return Pair(asked, " ".join(a), " ".join(b), p_true, tuple(votes))


def labelled(pair: Pair, arm: str) -> Example:
    """The pair as arm ``arm`` is trained on it."""
    for_a = sum(vote for vote, _ in pair.votes)
    p_a = float(for_a * 2 > N_VOTES) if arm == "hard" else (1 + for_a) / (2 + N_VOTES)
    votes = [
        {"choice": "a" if vote else "b", "kind": "human", "error_rate": error}
        for vote, error in pair.votes
    ]
    example, flipped = Example.make(
        pair.prompt,
        [Message.of("assistant", pair.a)],
        [Message.of("assistant", pair.b)],
        p=p_a,
        votes=json.dumps(votes),
    )
    return replace(example, evidence=json.dumps({"chosen_slot": "b" if flipped else "a"}))


@dataclass(frozen=True)
class Score:
    """vote_loss: log-loss on single held-out votes; the others against the truth."""

    vote_loss: float
    accuracy: float
    cross_entropy: float


def measure(model: Path, adapter: Path, held: Sequence[Pair]) -> Score:
    """How the adapter's implicit rewards do on pairs whose truth is known."""
    policy = load_policy(str(model), adapter=adapter, dtype="float32", device="cpu")
    exchanges = [
        Exchange(p.prompt, ((Message.of("assistant", p.a),), (Message.of("assistant", p.b),)))
        for p in held
    ]
    trees = [tree for tree in encode_trees(policy.tokenizer, exchanges) if isinstance(tree, Tree)]
    new = sums_of(policy.model, trees)
    with policy.model.disable_adapter():
        old = sums_of(policy.model, trees)
    ratios = (new - old).numpy().astype(np.float64)
    logit = BETA * (ratios[:, 0] - ratios[:, 1])
    true = np.asarray([p.p_true for p in held])
    share = np.asarray([fmean(vote for vote, _ in p.votes) for p in held])
    log_a, log_b = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    return Score(
        vote_loss=float(-(share * log_a + (1 - share) * log_b).mean()),
        accuracy=float(((logit > 0) == (true > 0.5)).mean()),
        cross_entropy=float(-(true * log_a + (1 - true) * log_b).mean()),
    )


def sums_of(model: torch.nn.Module, trees: Sequence[Tree]) -> torch.Tensor:
    """(pairs, 2) log-probs."""
    layout = choose_layout(model, longest=max(tree.longest for tree in trees))
    sums = torch.zeros(len(trees), 2)
    with torch.no_grad():
        for pack in plan_packs([tree.n_tokens for tree in trees], 1024):
            found = tree_logps(model, [trees[i] for i in pack], layout=layout).sums()
            sums[pack] = found.view(-1, 2)
    return sums


def run(model: Path, arm: str, seed: int, rate: float, epochs: int) -> Score:
    """Train one arm on one seed and measure it."""
    training, held = world(seed)
    settings = TrainSettings(
        loss="votes" if arm == "votes" else "sigmoid",
        beta=BETA,
        learning_rate=rate,
        epochs=epochs,
        dtype="float32",
        device="cpu",
        seed=seed,
        trackers=[],
        reference_store="none",
    )
    with tempfile.TemporaryDirectory() as out:
        result = train(str(model), [labelled(p, arm) for p in training], settings, out=out)
        return measure(model, result.folder, held)


def tune(model: Path, arm: str, *, quick: bool) -> tuple[float, int]:
    """The learning rate and epochs of an arm, by the votes of the held-out pairs."""
    if quick:
        return RATES[1], 1
    found = {}
    for rate in RATES:
        for epochs in EPOCHS:
            scores = [run(model, arm, seed, rate, epochs).vote_loss for seed in TUNING_SEEDS]
            found[rate, epochs] = fmean(scores)
            print(f"  {arm}: rate {rate:g}, epochs {epochs}: {found[rate, epochs]:.4f}", flush=True)
    return min(found, key=lambda key: found[key])


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval of paired differences."""
    mean, n = fmean(values), len(values)
    half = float(student.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)
    return mean, mean - half, mean + half


def main() -> None:
    """Tune, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    seeds = SEEDS[:2] if quick else SEEDS
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_model(Path(folder) / "model")
        chosen = {arm: tune(model, arm, quick=quick) for arm in ARMS}
        scores = {arm: [run(model, arm, seed, *chosen[arm]) for seed in seeds] for arm in ARMS}
    report: dict[str, object] = {"settings": chosen, "seeds": len(seeds)}
    for measure_name in ("accuracy", "cross_entropy"):
        values = {arm: [getattr(s, measure_name) for s in scores[arm]] for arm in ARMS}
        report[measure_name] = {arm: round(fmean(values[arm]), 4) for arm in ARMS}
        for one, other in (("soft", "hard"), ("votes", "soft"), ("votes", "hard")):
            gaps = [a - b for a, b in zip(values[one], values[other], strict=True)]
            mean, low, high = interval(gaps)
            report[f"{measure_name}: {one} - {other}"] = [round(v, 4) for v in (mean, low, high)]
    print(json.dumps(report))


if __name__ == "__main__":
    main()
