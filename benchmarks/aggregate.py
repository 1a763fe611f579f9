"""How well votes that were not looked at are predicted: docs/evidence.md is the protocol.

python benchmarks/aggregate.py            # real votes, planted raters, speed; tables and JSON
python benchmarks/aggregate.py ukp        # one part: ukp, mtbench, scratchplot, planted, speed
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from vote_tables import AT, planted, records_of  # noqa: E402

from prefkit.aggregation import AGGREGATORS, aggregate, counted_votes  # noqa: E402
from prefkit.aggregation.crossval import Evaluation, evaluate, make_plan  # noqa: E402
from prefkit.aggregation.scores import Interval  # noqa: E402
from prefkit.aggregation.table import VoteTable, vote_table  # noqa: E402
from prefkit.core.records import Comparison, Completion, Message, Prompt, Vote  # noqa: E402

DATA = Path(os.environ.get("PREFKIT_REAL_DATA", ROOT.parent / "shared" / "data")) / "multi"
METHODS = {name: entry for name, entry in AGGREGATORS if entry.method is not None}
SIZES = (1, 2, 3, None)
OTHER_SEEDS = (1, 2, 3, 4)
FEWEST_VOTES = 200
ALL_VOTES = 10**9
Votes = tuple[list[Comparison], list[Vote]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parts = parser.parse_args().parts or list(PARTS)
    print(json.dumps({name: PARTS[name]() for name in parts}))


def real(name: str, load: Callable[[], Votes]) -> dict[str, Any]:
    """The scores on one set of real votes, printed as tables; the same as a JSON value."""
    comparisons, votes = load()
    counted = counted_votes(comparisons, votes)
    table = vote_table(comparisons, [*counted.votes, *counted.bad])
    print(f"\n## {name}\n{_facts(table)}\n")
    scored: dict[str, Any] = {}
    plan = make_plan(table, most_votes=ALL_VOTES)
    sizes = [size for size in SIZES if plan.at(size).sum() >= FEWEST_VOTES]
    started = time.perf_counter()
    found = evaluate(METHODS, plan, sizes=sizes)
    seconds = time.perf_counter() - started
    again = [_again(table, seed, sizes) for seed in OTHER_SEEDS]
    for number, evaluation in enumerate(found):
        words = "all other votes" if evaluation.size is None else f"{evaluation.size} votes"
        print(f"\n{words} of a comparison looked at: {evaluation.n_votes} held-out votes on "
              f"{evaluation.n_comparisons} comparisons")  # fmt: skip
        scored[words] = _show(evaluation, [other[number] for other in again])
    left_out = [str(size) for size in SIZES if size not in sizes]
    print(f"\n{seconds:.0f} s a seed; fewer than {FEWEST_VOTES} votes at: {', '.join(left_out)}")
    return scored


def _again(table: VoteTable, seed: int, sizes: Sequence[int | None]) -> list[Evaluation]:
    plan = make_plan(table, seed=seed, most_votes=ALL_VOTES)
    return evaluate(METHODS, plan, sizes=sizes, seed=seed)


def _facts(table: VoteTable) -> str:
    k = np.bincount(table.counts)[1:]
    ties = (table.outcome == 2).mean()
    return (
        f"{len(table)} votes ({table.machine.sum()} of machines, {ties:.0%} ties) of "
        f"{table.n_raters} raters on {table.n_items} comparisons of {table.n_responses} answers; "
        f"comparisons with 1, 2, … votes: {', '.join(map(str, k))}"
    )


def _show(evaluation: Evaluation, again: Sequence[Evaluation]) -> dict[str, Any]:
    header = "method|log-loss|less vote_share|other seeds|Brier|before τ|τ|calibration error"
    print(f"| {header.replace('|', ' | ')} |\n|{'---|' * 8}")
    value: dict[str, Any] = {"picked": evaluation.picked, "picks": list(evaluation.picks)}
    for score in (*evaluation.methods, evaluation.auto):
        others = [other.auto if score.name == "auto" else other.score(score.name)
                  for other in again]  # fmt: skip
        moved = [other.versus.value for other in others if other.versus is not None]
        span = f"{min(moved):+.4f} to {max(moved):+.4f}" if moved else ""
        name = f"**{score.name}**" if score.name == evaluation.picked else score.name
        print(f"| {name} | {_interval(score.log_loss)} | {_signed(score.versus)} | {span} | "
              f"{_interval(score.brier)} | {score.raw_log_loss:.4f} | {score.temperature:.2f} | "
              f"{score.calibration_error:.3f} |")  # fmt: skip
        value[score.name] = {
            "log_loss": score.log_loss.value,
            "interval": [score.log_loss.low, score.log_loss.high],
            "versus": score.versus and [score.versus.value, score.versus.low, score.versus.high],
            "brier": score.brier.value,
            "temperature": score.temperature,
        }
    picked = ", ".join(sorted({pick for other in again for pick in (other.picked,)}))
    print(f"\nPicked by four of five folds: {', '.join(evaluation.picks)}. By the other seeds: "
          f"{picked}. Left out: {dict(evaluation.left_out) or 'none'}.")  # fmt: skip
    return value


def _interval(found: Interval) -> str:
    return f"{found.value:.4f} ({found.low:.4f}, {found.high:.4f})"


def _signed(found: Interval | None) -> str:
    if found is None:
        return ""
    text = f"{found.value:+.4f} ({found.low:+.4f}, {found.high:+.4f})"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text


def load_ukp() -> Votes:
    """Arguments of one stance compared for convincingness; A1 stood on the left."""
    items = {row["item_id"]: row for row in _rows("ukpconvarg1_dev_items")}
    return _build(
        {
            key: (
                f"{row['prompt']}: {row['stance']}",
                (row["response_a"], row["a_id"]),
                (row["response_b"], row["b_id"]),
            )
            for key, row in items.items()
        },
        ((row["item_id"], row["annotator"], row["label"], True, False)
         for row in _rows("ukpconvarg1_dev_votes")),
    )  # fmt: skip


def load_mtbench() -> Votes:
    """Answers of six models to MT-bench questions, two turns; people and GPT-4."""
    items = {row["item_id"]: row for row in _rows("mtbench_dev_items")}
    return _build(
        {
            key: (
                f"{row['question_id']}, turn {row['turn']}",
                (json.dumps(row["conversation_a"]), row["model_a"]),
                (json.dumps(row["conversation_b"]), row["model_b"]),
            )
            for key, row in items.items()
        },
        ((row["item_id"], row["annotator"], row["label"], False, row["kind"] == "llm")
         for row in _rows("mtbench_dev_votes")),
    )  # fmt: skip


def load_scratchplot() -> Votes:
    """Endings of stories of four systems; every pair has three votes."""
    rows = _rows("scratchplot_pair_votes")
    return _build(
        {
            row["item_id"]: (
                "Which story ends better?",
                (row["story_a"] + "\n" + row["response_a"], row["system_a"]),
                (row["story_b"] + "\n" + row["response_b"], row["system_b"]),
            )
            for row in rows
        },
        ((row["item_id"], row["annotator"], row["label"], False, False) for row in rows),
    )


def _build(
    items: dict[str, tuple[str, tuple[str, str], tuple[str, str]]],
    votes: Iterable[tuple[str, str, str, bool, bool]],
) -> Votes:
    """items: prompt, (text of a, who wrote it), the same of b. votes: item, rater, label, whether
    a is known to have stood on the left, whether the rater is a machine. Slots go by id.
    """
    comparisons: dict[str, Comparison] = {}
    turned: dict[str, bool] = {}
    for key, (question, a, b) in items.items():
        prompt = Prompt.make([Message.of("user", question)])
        one, other = (
            Completion.make(prompt.id, [Message.of("assistant", text)], model)
            for text, model in (a, b)
        )
        comparisons[key] = Comparison.make(prompt, one, other)
        turned[key] = comparisons[key].a.id != one.id
    other_side = {"a": "b", "b": "a", "tie": "tie"}
    cast: list[Vote] = []
    for number, (key, rater, label, left, machine) in enumerate(votes):
        comparison, choice = comparisons[key], other_side[label] if turned[key] else label
        cast.append(
            Vote(
                f"{number:06d}",
                comparison.id,
                comparison.id,
                rater,
                "judge" if machine else "human",
                choice,  # pyright: ignore[reportArgumentType]
                AT,
                shown_first=("b" if turned[key] else "a") if left else None,
            )
        )
    unique = {comparison.id: comparison for comparison in comparisons.values()}
    return list(unique.values()), cast


def _rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.parquet"
    if not path.is_file():
        raise SystemExit(f"no real votes at {path}: set PREFKIT_REAL_DATA to their folder")
    return pq.read_table(path).to_pylist()


def planted_raters() -> dict[str, Any]:
    """Largest and mean error of the estimated error rates, 400 votes a rater, ten worlds."""
    errors = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.2, 0.3, 0.35, 0.4, 0.8])
    print("\n## Planted raters\n| method | world | mean error of the error rate | largest |\n"
          "|---|---|---|---|")  # fmt: skip
    value: dict[str, Any] = {}
    for certain in (True, False):
        world = "every pair has a right answer" if certain else "scores of spread 2"
        for name in ("strength", "dawid_skene", "bradley_terry"):
            method = METHODS[name].method
            assert method is not None
            off: list[Any] = []
            for seed in range(10):
                table = planted(seed, n_items=500, k=8, errors=errors, certain=certain).table
                off.append(np.abs(method.fit(table).error_rates() - errors))  # pyright: ignore
            mean, most = float(np.mean(off)), float(np.max(off))
            print(f"| {name} | {world} | {mean:.3f} | {most:.3f} |")
            value[f"{name}, {world}"] = [mean, most]
    return value


def speed() -> dict[str, list[float]]:
    """Seconds of this thread and of the clock for 100 000 votes by 50 raters on 33 334 comparisons.

    Medians of three.
    """
    world = planted(0, n_items=33_334, k=3, errors=np.linspace(0.02, 0.4, 50), n_responses=33_000)
    comparisons, votes = records_of(world.table)
    print("\n## 100 000 votes\n| method | seconds of CPU | of the clock |\n|---|---|---|")
    value: dict[str, list[float]] = {}
    for name in ("auto", *METHODS):
        taken: list[tuple[float, float]] = []
        for _ in range(3):
            started = time.thread_time(), time.perf_counter()
            aggregate(comparisons, votes, method=name)
            taken.append((time.thread_time() - started[0], time.perf_counter() - started[1]))
        value[name] = [median(column) for column in zip(*taken, strict=True)]
        print(f"| {name} | {value[name][0]:.2f} | {value[name][1]:.2f} |")
    return value


PARTS: dict[str, Callable[[], Any]] = {
    "ukp": lambda: real("UKPConvArg1", load_ukp),
    "mtbench": lambda: real("MT-bench", load_mtbench),
    "scratchplot": lambda: real("ScratchPlot", load_scratchplot),
    "planted": planted_raters,
    "speed": speed,
}


if __name__ == "__main__":
    main()
