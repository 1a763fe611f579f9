"""``prefkit train``: data in, an adapter or a model out."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.output import facts_table, finish, progress_bars
from prefkit.cli.source import MAP_HELP, read_map
from prefkit.core.heap import one_heap

if TYPE_CHECKING:
    from rich.table import Table

    from prefkit.training import TrainSettings
    from prefkit.training.result import TrainResult

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

EXAMPLE = """\
Example: prefkit train preferences.parquet --model smollm2 --out run1 --set epochs=1

DATA is a file (JSONL, CSV, Parquet) or a Hub data set of the rows that the loss takes: pairs for
sigmoid and most others, labelled answers for kto, demonstrations for sft, ranked answers for
plackett_luce. `prefkit inspect DATA --as-trained MODEL` shows what would be trained. Settings for
--set, with their defaults, are in the train section of the prefkit.yaml that `prefkit init`
writes; the common ones: loss, method, beta, learning_rate, epochs, batch_size, lora.r, max_length.
"""


@app.command(epilog=EXAMPLE)
def train(
    data: Annotated[str, typer.Argument(help="Training file or Hub data set.")],
    out: Annotated[Path, typer.Option(help="Folder for adapter/, metrics.jsonl, train.json.")],
    model: Annotated[
        str, typer.Option(help="smollm2, a Hub id (org/name), a folder or a .gguf file.")
    ] = "smollm2",
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter to train further; its rank stays.")
    ] = None,
    heldout: Annotated[str | None, typer.Option(help="Rows kept apart, scored at the end.")] = None,
    mapping: Annotated[list[str] | None, typer.Option("--map", help=MAP_HELP)] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, for example beta=0.2.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace another run's result in OUT.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Train a model: DPO on soft labels with a LoRA adapter, or as loss and method say.

    The same command again goes on after a kill, and does nothing where the run is finished.
    """
    from prefkit.settings import parse_settings
    from prefkit.training import TrainSettings
    from prefkit.training import train as train_adapter

    settings = parse_settings(TrainSettings, {}, overrides or [], where="--set")
    if settings.dtype == "float32":
        one_heap()
    with progress_bars() as progress:
        result = train_adapter(
            model,
            data,
            settings,
            out=out,
            start_adapter=adapter,
            heldout=heldout,
            mapping=read_map(mapping),
            overwrite=overwrite,
            progress=progress,
        )
    from prefkit.training.ranks import leads

    if not leads():
        return
    finish(
        result.to_json(),
        as_json=as_json,
        screen=[_screen(result)],
        next_command=_following(model, result, settings),
    )


def _following(model: str, result: TrainResult, settings: TrainSettings) -> str:
    from prefkit.training.losses import losses

    rewards = any(losses.get(name).rewards for name in settings.loss_weights)
    verb = "judge COMPARISONS --rater reward" if rewards else "evaluate PROMPTS"
    if result.adapter is None:
        return f"prefkit {verb} --model {quote(str(result.folder))}"
    return f"prefkit {verb} --model {quote(model)} --adapter {quote(str(result.adapter))}"


def _screen(result: TrainResult) -> Table:
    return facts_table("Trained", list(result.facts().items()))
