"""Which layout a set of rows has, with the evidence; refusal where it is not certain.

A wrong guess would train on swallowed prompts or swapped sides, so two layouts that both fit, or
none, end in an error that says what was seen and how to map the columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefkit.core.errors import DataError
from prefkit.core.registry import Registry, did_you_mean
from prefkit.formats.layouts import ALIASES, LAYOUTS, PAIRS, Layout
from prefkit.formats.rows import Row, Rows
from prefkit.formats.train_layouts import TRAIN_LAYOUTS
from prefkit.formats.values import kind_of

N_SAMPLED = 200
N_NEAREST = 3  # layouts whose misfit a refusal explains
# A row that does not fit is an error by row later; a column mostly of another kind is another
# layout.
ENOUGH = 0.8
EXTRAS = ("id", "p", "weight", "margin", "tags", "votes", "evidence", "chat_template_kwargs")
# What the trainer's worst.jsonl says of a pair besides; the file is read again as data.
FIT = ("model_p", "reward_margin", "contradiction", "n_seen", "n_wrong")


@dataclass(frozen=True, slots=True)
class Detected:
    """The layout, its evidence line by line, and our name → their name of every column used."""

    layout: Layout
    evidence: tuple[str, ...]
    columns: Mapping[str, str]
    unused: tuple[str, ...]


def detect(
    rows: Rows,
    *,
    layout: str | None = None,
    mapping: Mapping[str, str] | None = None,
    among: Sequence[Registry[Layout]] = (LAYOUTS,),
) -> Detected:
    """The layout of ``rows``; DataError if none or more than one fits.

    layout: skips the choice, not the check. mapping: our column → their column; an empty name
    leaves our column out, whatever theirs is called. among: the registries it is looked for in.
    """
    columns = resolve_columns(rows, mapping or {})
    sampled = _sample(rows.values)
    kinds = {
        ours: Counter(kind_of(row.get(theirs)) for row in sampled)
        for ours, theirs in columns.items()
    }
    candidates = [entry for known in among for _, entry in known]
    if layout:
        holding = next((known for known in among if layout in known), among[0])
        candidates = [holding.get(layout)]
    fitting = [entry for entry in candidates if not misfits(entry, kinds)]
    if len(fitting) != 1:
        raise _refusal(rows, kinds, candidates, fitting)
    found = fitting[0]
    used = {
        ours: columns[ours] for ours in (*found.needs, *found.optional, *EXTRAS) if ours in columns
    }
    unused = tuple(name for name in rows.columns if name not in used.values())
    evidence = tuple(_evidence(found, kinds, used, len(sampled)))
    return Detected(found, evidence, used, unused)


def resolve_columns(rows: Rows, mapping: Mapping[str, str]) -> dict[str, str]:
    """Our column name → theirs, with aliases and ``mapping`` applied."""
    theirs = rows.columns
    columns = {name: name for name in theirs if name not in mapping}
    for ours, name in mapping.items():
        if name and name not in theirs:
            raise DataError(
                f"{rows.source}: no column {name!r} (--map {ours}={name})"
                f"{did_you_mean(name, theirs)}",
                hint=f"columns: {', '.join(theirs)}",
            )
        if name:
            columns.pop(name, None)
            columns[ours] = name
    for ours, names in ALIASES.items():
        present = [name for name in names if name in columns]
        if ours not in columns and ours not in mapping and present:
            _refuse_unclear_prompt(rows, present, columns)
            columns[ours] = columns.pop(present[0])
    return columns


def _refuse_unclear_prompt(rows: Rows, present: Sequence[str], columns: Mapping[str, str]) -> None:
    """Alpaca's ``input`` holds half of the prompt; two aliases may each be it."""
    seen = list(present)
    if "input" in columns and any(row.get("input") for row in _sample(rows.values)):
        seen.append("input")
    if len(seen) > 1:
        raise DataError(
            f"{rows.source}: the prompt may be {' or '.join(repr(name) for name in seen)}",
            hint=f"say which: --map prompt={seen[0]}",
        )


def misfits(entry: Layout, kinds: Mapping[str, Counter[Any]]) -> list[str]:
    """Why ``entry`` is not the layout; empty if it fits."""
    found = [f"column {name!r} would be left out" for name in entry.forbids if name in kinds]
    for column, allowed in entry.needs.items():
        if column not in kinds:
            found.append(f"column {column!r} is missing")
            continue
        counts = kinds[column]
        # Rows without a value say nothing of the layout; they are errors by row.
        n_given = sum(n for kind, n in counts.items() if kind != "none")
        n_fit = sum(counts[kind] for kind in allowed)
        if n_given == 0 or n_fit < ENOUGH * n_given:
            found.append(f"{column} is {_listed(counts)}, not {' or '.join(allowed)}")
    if entry.alone:
        known = {*entry.needs, *entry.optional, *EXTRAS, *FIT, *entry.forbids}
        found += [f"column {name!r} would be left out" for name in kinds if name not in known]
    return found


def _sample(values: Sequence[Row]) -> list[Row]:
    """Up to N_SAMPLED rows, spread evenly over the data."""
    step = max(1, len(values) // N_SAMPLED)
    return [values[index] for index in range(0, len(values), step)][:N_SAMPLED]


def _evidence(
    found: Layout, kinds: Mapping[str, Counter[Any]], used: Mapping[str, str], n_sampled: int
) -> list[str]:
    lines = [found.about]
    for ours in found.needs:
        shown = ours if used[ours] == ours else f"{ours} (column {used[ours]!r})"
        lines.append(f"{shown} is {_listed(kinds[ours])} in {n_sampled} sampled rows")
    extras = [name for name in used if name not in found.needs]
    if extras:
        lines.append(f"also used: {', '.join(extras)}")
    return lines


def _listed(counts: Counter[Any]) -> str:
    total = sum(counts.values())
    return ", ".join(
        str(kind) if n == total else f"{kind} ({n} of {total})" for kind, n in counts.most_common()
    )


def _refusal(
    rows: Rows,
    kinds: Mapping[str, Counter[Any]],
    candidates: Sequence[Layout],
    fitting: Sequence[Layout],
) -> DataError:
    seen = "; ".join(f"{name}: {_listed(counts)}" for name, counts in kinds.items())
    if fitting:
        names = [entry.name for entry in fitting]
        return DataError(
            f"{rows.source}: the layout may be {' or '.join(names)} (seen: {seen})",
            hint=f"say which: --layout {names[0]}",
        )
    lines = [f"{rows.source}: no known layout of preference pairs (seen: {seen})"]
    nearest = sorted(candidates, key=lambda entry: len(misfits(entry, kinds)))[:N_NEAREST]
    lines += [f"not {entry.name}: {'; '.join(misfits(entry, kinds))}" for entry in nearest]
    hint = (
        "name the columns, for example: --map prompt=question --map chosen=better "
        "--map rejected=worse"
    )
    if any(set(pair) <= set(rows.columns) for pair in PAIRS):
        hint = f"pairs without a label are labelled first: prefkit annotate FILE; else {hint}"
    for_training = [entry for _, entry in TRAIN_LAYOUTS if not misfits(entry, kinds)]
    if for_training and for_training[0] not in candidates:
        hint = (
            f"as training data these rows are {for_training[0].name} ({for_training[0].target}): "
            "prefkit train and prefkit inspect --as-trained read them"
        )
    return DataError("\n".join(lines), hint=hint)
