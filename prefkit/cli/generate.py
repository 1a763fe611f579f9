"""``prefkit generate``: sample answers and pair them."""

from __future__ import annotations

import shutil
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefkit.cli.output import facts_table, finish, progress_bars, rows_table

if TYPE_CHECKING:
    from prefkit.generation import Generated, GenerateSettings

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

SHOWN = 3


@app.command()
def generate(
    prompts: Annotated[
        Path, typer.Argument(help="Prompts: .jsonl, .txt (one a line), .csv or .parquet.")
    ],
    model: Annotated[
        str, typer.Option(help="A Hub id, a folder, a GGUF file, or smollm2.")
    ] = "smollm2",
    adapter: Annotated[
        Path | None, typer.Option(help="A LoRA adapter folder to lay over the model.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("generated"),
    n: Annotated[int, typer.Option(help="Answers to each prompt.")] = 4,
    temperature: Annotated[float, typer.Option(help="Spread of the answers; 0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Mass of the likeliest tokens to draw from.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="The most new tokens of an answer.")] = 256,
    seed: Annotated[int, typer.Option(help="Which answers and pairs are drawn.")] = 0,
    pairing: Annotated[str, typer.Option(help="random or most_different.")] = "random",
    pairs: Annotated[int, typer.Option(help="The most pairs for each prompt.")] = 1,
    backend: Annotated[
        str, typer.Option(help="Text engine: auto, vllm, transformers, server or scripted.")
    ] = "auto",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another setting, for example engine.batch_size=32."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the answers that an earlier run kept in --out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Sample answers to prompts and pair them into comparisons.

    Writes candidates.parquet (every answer) and comparisons.parquet (the pairs) to --out. A run
    that was interrupted goes on when the same command is given again.

    Example: prefkit generate questions.txt --model smollm2 --n 4 --out answers
    """
    given: dict[str, Any] = {
        "n": n,
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "seed": seed,
        "pairing": pairing,
        "pairs_per_prompt": pairs,
        "engine": {"backend": backend},
    }
    from prefkit.generation import GenerateSettings
    from prefkit.settings import parse_settings

    settings = parse_settings(GenerateSettings, given, overrides or (), where="prefkit generate")
    if fresh:
        shutil.rmtree(out / "journal", ignore_errors=True)
    made = _generate(prompts, model, adapter, settings, out)
    _show(made, out, as_json)


def _generate(
    prompts: Path, model: str, adapter: Path | None, settings: GenerateSettings, out: Path
) -> Generated:
    """Sample, and write the two files once everything is there."""
    from prefkit.core.records import Comparison, Completion
    from prefkit.formats.tables import write_records
    from prefkit.generation import generate

    with progress_bars() as progress:
        made = generate(
            prompts, model, settings, adapter=adapter, journal=out / "journal", progress=progress
        )
    write_records(out / "candidates.parquet", made.completions, Completion)
    write_records(out / "comparisons.parquet", made.comparisons, Comparison)
    return made


def _show(made: Generated, out: Path, as_json: bool) -> None:
    comparisons = out / "comparisons.parquet"
    value = {
        **{f"n_{name}": count for name, count in made.counts.items()},
        "backend": made.backend,
        "peak_gib": made.peak_gib,
        "candidates": str(out / "candidates.parquet"),
        "comparisons": str(comparisons),
    }
    facts = [(name.replace("_", " "), count) for name, count in made.counts.items()]
    facts += [("engine", made.backend), ("written", comparisons)]
    pairs = [
        (_short(c.prompt.messages[-1].text), _short(c.a.text), _short(c.b.text))
        for c in made.comparisons[:SHOWN]
    ]
    shown = quote(str(comparisons))
    finish(
        value,
        as_json=as_json,
        screen=[
            facts_table("generated", facts),
            rows_table("the first pairs", ("prompt", "a", "b"), pairs),
        ],
        next_command=f"prefkit annotate {shown}   (or: prefkit judge {shown})",
    )


def _short(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
