"""``prefkit merge``: an adapter and its base model become one model."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from prefkit.cli.output import facts_table, finish, progress_bars

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder, such as OUT/adapter.")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    model: Annotated[
        str | None, typer.Option(help="Base model; by default the one that the adapter names.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Stored as auto (the base's), bfloat16, float16 or float32.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier merge in OUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write an adapter merged into its base model, with tokenizer, chat template and card.

    vLLM serves plain LoRA adapters as they are; DoRA, an adapted head and most other methods it
    serves merged only.

    Example: prefkit merge run1/adapter --out run1/merged
    """
    from prefkit.core.errors import require

    require("torch", "train")
    require("peft", "train")
    from prefkit.training.merge import merge as write

    with progress_bars() as progress:
        merged = write(
            adapter, out, model=model, dtype=dtype, overwrite=overwrite, progress=progress
        )
    lost = f"{merged.rounding:.1%} of what was learned"
    facts: list[tuple[str, object]] = [
        ("layers", merged.n_layers),
        ("stored as", merged.dtype),
        ("lost by rounding", lost + (", try --dtype float32" if merged.rounding > 0.2 else "")),
        ("head", "untied from the embedding" if merged.untied else "as in the base"),
        ("model", merged.folder),
    ]
    finish(
        merged.to_json(),
        as_json=as_json,
        screen=[facts_table("Merged", facts)],
        next_command=f"prefkit evaluate PROMPTS --model {quote(str(out))}",
    )
