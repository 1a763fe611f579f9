"""Which layout a set of rows has, with the evidence; refusal where it is not certain.

A wrong guess would train on swallowed prompts or swapped sides, so two layouts that both fit, or
none, end in an error that says what was seen and how to map the columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefkit.core.errors import DataError
from prefkit.core.registry import Registry, did_you_mean
from prefkit.formats.layouts import ALIASES, LAYOUTS, PAIRS, Layout
from prefkit.formats.rows import Row, Rows, first_faults
from prefkit.formats.train_layouts import TRAIN_LAYOUTS
from prefkit.formats.values import kind_of, shown

N_SAMPLED = 200
N_NEAREST = 3  # layouts whose misfit a refusal explains
# Rows whose cells are told one by one, however few fit; of more than that only the lesser half.
MOST_MISTYPED = 5
# What the kinds of cells are called in messages.
_WORDS = {
    "text": "text",
    "transcript": "a transcript",
    "turns": "a transcript",
    "messages": "messages",
    "answer": "messages",
    "prefkit": "messages",
    "list": "a list",
    "object": "an object",
    "number": "a number",
}
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
        raise _refusal(rows, columns, kinds, candidates, fitting)
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
    found = _column_misfits(entry, kinds)
    for column, allowed in entry.needs.items():
        if column not in kinds:
            continue
        counts = kinds[column]
        # Rows without a value say nothing of the layout; they are errors by row.
        n_given = sum(n for kind, n in counts.items() if kind != "none")
        n_fit = sum(counts[kind] for kind in allowed)
        if n_given == 0 or n_fit < ENOUGH * n_given:
            found.append(f"{column} is {_listed(counts)}, not {' or '.join(allowed)}")
    return found


def _column_misfits(entry: Layout, columns: Collection[str]) -> list[str]:
    """Columns for which ``entry`` is not the layout, whatever they hold."""
    left_out = [name for name in entry.forbids if name in columns]
    if entry.alone:
        known = {*entry.needs, *entry.optional, *EXTRAS, *FIT, *entry.forbids}
        left_out += [name for name in columns if name not in known]
    found = [f"column {name!r} would be left out" for name in left_out]
    return found + [f"column {name!r} is missing" for name in entry.needs if name not in columns]


def _sample(values: Sequence[Row]) -> list[Row]:
    """Up to N_SAMPLED rows, spread evenly over the data."""
    step = max(1, len(values) // N_SAMPLED)
    return [values[index] for index in range(0, len(values), step)][:N_SAMPLED]


def _evidence(
    found: Layout, kinds: Mapping[str, Counter[Any]], used: Mapping[str, str], n_sampled: int
) -> list[str]:
    lines = [found.about]
    for ours in found.needs:
        lines.append(
            f"{_shown_as(ours, used)} is {_listed(kinds[ours])} in {n_sampled} sampled rows"
        )
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
    columns: Mapping[str, str],
    kinds: Mapping[str, Counter[Any]],
    candidates: Sequence[Layout],
    fitting: Sequence[Layout],
) -> DataError:
    seen = "; ".join(
        f"{_shown_as(name, columns)}: {_listed(counts)}" for name, counts in kinds.items()
    )
    if fitting:
        names = [entry.name for entry in fitting]
        return DataError(
            f"{rows.source}: the layout may be {' or '.join(names)} (seen: {seen})",
            hint=f"say which: --layout {names[0]}",
        )
    for_training = [entry for _, entry in TRAIN_LAYOUTS if not misfits(entry, kinds)]
    elsewhere = bool(for_training) and for_training[0] not in candidates
    faults = [] if elsewhere else _mistyped(rows, columns, candidates)
    if faults and len(faults) <= max(MOST_MISTYPED, len(rows.values) // 2):
        return DataError(
            first_faults(faults),
            hint="mend or leave out these rows, or name other columns: --map chosen=COLUMN",
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
    if elsewhere:
        hint = (
            f"as training data these rows are {for_training[0].name} ({for_training[0].target}): "
            "prefkit train and prefkit inspect --as-trained read them"
        )
    return DataError("\n".join(lines), hint=hint)


def _mistyped(rows: Rows, columns: Mapping[str, str], candidates: Sequence[Layout]) -> list[str]:
    """A line for each row with cells of another kind than its column's, its place first.

    Where the columns alone make a layout: of several the one that most cells fit. Empty where they
    make none.
    """
    named = [entry for entry in candidates if not _column_misfits(entry, columns)]
    cells = {name: columns[name] for entry in named for name in entry.needs}
    kinds = [{ours: kind_of(row.get(name)) for ours, name in cells.items()} for row in rows.values]

    def misfit(entry: Layout) -> int:
        return sum(
            row[c] not in (*kinds_, "none") for row in kinds for c, kinds_ in entry.needs.items()
        )

    least = min(map(misfit, named), default=0)
    nearest = [entry for entry in named if misfit(entry) == least]
    wanted: dict[str, set[str]] = {}
    for entry in nearest:
        for column, allowed in entry.needs.items():
            wanted.setdefault(column, set()).update(allowed)
    for column, allowed in wanted.items():
        present = {row[column] for row in kinds} - {"none"}
        others = {kind for entry in candidates for kind in entry.needs.get(column, ())}
        if present and not present & allowed and present <= others:
            return []  # a whole column of another layout's kind
        if present:  # else every cell of it is odd, because it is missing
            allowed.add("none")
    faults: list[str] = []
    for index, (row, found) in enumerate(zip(rows.values, kinds, strict=True)):
        odd = [
            f"{cells[column]} is {_cell(row.get(cells[column]), found[column])}; expected "
            f"{_words(allowed)}"
            for column, allowed in wanted.items()
            if found[column] not in allowed
        ]
        if odd:
            faults.append(f"{rows.place(index)}: {'; '.join(odd)}")
    return faults


def _cell(value: Any, kind: str) -> str:
    turns = " (a transcript)" if kind in ("transcript", "turns") else ""
    return f"{shown(value)}{turns}"


def _words(kinds: Collection[str]) -> str:
    return " or ".join(dict.fromkeys(word for kind, word in _WORDS.items() if kind in kinds))


def _shown_as(ours: str, columns: Mapping[str, str]) -> str:
    """Our column, and theirs where it is called otherwise."""
    return ours if columns[ours] == ours else f"{ours} (column {columns[ours]!r})"
