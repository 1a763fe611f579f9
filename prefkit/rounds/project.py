"""prefkit.yaml: every stage's settings in one model, and the workspace made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from prefkit.aggregation import AggregateSettings
from prefkit.annotation.settings import AnnotateSettings
from prefkit.core.errors import WorkspaceError
from prefkit.core.files import write_text
from prefkit.core.records import Message, Prompt
from prefkit.engines.settings import EngineSettings
from prefkit.evaluation.settings import EvaluateSettings
from prefkit.formats.schema import messages_to_rows
from prefkit.generation.settings import GenerateSettings
from prefkit.judging.settings import JudgeSettings
from prefkit.settings import Settings, commented_yaml, read_settings
from prefkit.training.losses import losses
from prefkit.training.settings import TrainSettings
from prefkit.workspace import CONFIG_NAME, Workspace

HEADER = """\
# prefkit workspace. Every key is explained above it and may be left out for its default.
# Override one for a single run with: prefkit loop run --set train.beta=0.2

"""


class LoopSettings(Settings):
    """What a round is and how rounds follow one another."""

    rounds: int = Field(default=2, ge=1, description="How many rounds to run.")
    prompts_per_round: int = Field(
        default=128, ge=1, description="New training prompts asked in each round."
    )
    label: Literal["people", "machine"] = Field(
        default="people",
        description="Who votes. people: the loop stops and waits for `prefkit annotate`; "
        "machine: the rater of the judge section votes at once. Votes that `prefkit judge` has put "
        "into the store count like any other.",
    )
    quorum: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of a round's comparisons that must have their votes before it goes on.",
    )
    data: Literal["accumulate", "fresh"] = Field(
        default="accumulate",
        description="What a round trains on. accumulate: examples of all rounds so far; "
        "fresh: this round's only.",
    )
    start: Literal["base", "previous"] = Field(
        default="base",
        description="Where a round's adapter starts. base: a new adapter on the base model "
        "(with data: accumulate every round can be rebuilt alone); previous: the last adapter.",
    )
    heldout_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="With label: people, the share of labelled prompts kept from training and "
        "used for held-out accuracy.",
    )


class CurateSection(Settings):
    """Which recipe filters the preferences."""

    recipe: str = Field(
        default="quick",
        description="A shipped recipe (none, quick) or a YAML file, relative to the workspace.",
    )
    overrides: tuple[str, ...] = Field(
        default=(), description='Changes to the recipe, for example ["length_ratio.max=3"].'
    )

    def recipe_in(self, folder: Path) -> str:
        """The recipe as curate takes it: the path of a file in ``folder``, or else the name."""
        path = folder / self.recipe
        return str(path) if path.is_file() else self.recipe


class Project(Settings):
    """The whole of prefkit.yaml."""

    model: str = Field(
        default="smollm2",
        description="The policy: a Hub id, a folder, a GGUF file, or smollm2 for the embedded "
        "SmolLM2-135M-Instruct.",
    )
    prompts: str = Field(
        default="prompts.jsonl",
        description="Prompts of this project, one JSON object a line: prompt or messages, and "
        "tags. Rows tagged split: heldout are never trained on.",
    )
    heldout_prompts: int = Field(
        default=64,
        ge=1,
        description="How many prompts to hold out for evaluation where none are tagged so "
        "(at most a third of all).",
    )
    seed: int = Field(default=0, description="Seed of everything random in this project.")
    loop: LoopSettings = Field(default=LoopSettings(), description="Rounds.")
    engine: EngineSettings = Field(
        default=EngineSettings(),
        description="What writes text in every stage; generate, judge and evaluate may each have "
        "an engine section of their own instead.",
    )
    generate: GenerateSettings = Field(
        default=GenerateSettings(), description="Sampling and pairing."
    )
    judge: JudgeSettings = Field(default=JudgeSettings(), description="The machine that votes.")
    annotate: AnnotateSettings = Field(default=AnnotateSettings(), description="The labelling app.")
    aggregate: AggregateSettings = Field(
        default=AggregateSettings(), description="How votes become P(a wins)."
    )
    curate: CurateSection = Field(
        default=CurateSection(), description="Filters between votes and training."
    )
    train: TrainSettings = Field(default=TrainSettings(), description="DPO training.")
    evaluate: EvaluateSettings = Field(
        default=EvaluateSettings(), description="What is measured each round."
    )

    @model_validator(mode="after")
    def _share_engine(self) -> Self:
        """Give the project's engine to the stages that name none of their own."""
        for name in INHERITING:
            stage = getattr(self, name)
            if "engine" not in stage.model_fields_set:
                # The model is frozen for its users; this is still its construction.
                object.__setattr__(self, name, stage.model_copy(update={"engine": self.engine}))
        return self

    @model_validator(mode="after")
    def _rounds_go_on(self) -> Self:
        """Refuse what leaves nothing that the next round can sample from."""
        rewards = [name for name in self.train.loss_weights if losses.get(name).rewards]
        if self.train.method == "full":
            raise ValueError(
                "train.method: rounds pass an adapter on, and full leaves none; use lora, or "
                "`prefkit train` with method full on the examples of a round"
            )
        if rewards:
            raise ValueError(
                f"train.loss: {rewards[0]} trains a reward model, which answers no prompts; use "
                "`prefkit train` for it"
            )
        return self


INHERITING = ("generate", "judge", "evaluate")


def read_project(workspace: Workspace, overrides: Sequence[str] = ()) -> Project:
    """The workspace's configuration; ConfigError lists every fault with its line."""
    return read_settings(Project, workspace.config_path, overrides)


def init_workspace(
    path: str | Path, project: Project, prompts: Iterable[dict[str, object]]
) -> Workspace:
    """Make a workspace: prefkit.yaml, the prompts file and rounds/.

    Raises WorkspaceError where one exists already, or a prompts file that holds something else.
    prefkit.yaml is written last, so a folder without it is no workspace yet and the same call can
    be made again.
    """
    folder = Path(path).expanduser().resolve()
    if (folder / CONFIG_NAME).exists():
        raise WorkspaceError(
            f"{folder}: there is a workspace already",
            hint=f"prefkit status {path}, or choose another folder",
        )
    prompts_path = folder / project.prompts
    rows = list(prompts)
    standing = prompts_path.is_file()
    if standing and starter_prompts(prompts_path) != rows:
        raise WorkspaceError(
            f"{prompts_path}: there is such a file already, with other prompts",
            hint=f"to use it: prefkit init {path} --prompts {prompts_path}",
        )
    (folder / "rounds").mkdir(parents=True, exist_ok=True)
    if not standing:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        write_text(prompts_path, "\n".join(lines) + "\n")
    shared = [n for n in INHERITING if getattr(project, n).engine == project.engine]
    text = commented_yaml(project, leave_out=[f"{name}.engine" for name in shared])
    write_text(folder / CONFIG_NAME, HEADER + text)
    return Workspace(folder)


def starter_prompts(path: Path | None) -> list[dict[str, object]]:
    """The rows of a new prompts.jsonl: the user's own prompts, or a few of prefkit's."""
    if path is None:
        from prefkit_data import demo_prompts

        return [*demo_prompts("train")[:256], *demo_prompts("heldout")[:64]]
    from prefkit.formats.load import load_prompts

    return [prompt_to_row(prompt) for prompt in load_prompts(path)]


def prompt_to_row(prompt: Prompt) -> dict[str, object]:
    """A prompt as a line of prompts.jsonl: ``prompt`` for one user turn, else ``messages``.

    Read again it is the same prompt.
    """
    row: dict[str, object] = {}
    if not all(_is_plain(message) for message in prompt.messages):
        row["messages"] = messages_to_rows(prompt.messages)
    elif len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        row["prompt"] = prompt.messages[0].text
    else:
        row["messages"] = [{"role": m.role, "content": m.text} for m in prompt.messages]
    if prompt.tools:
        row["tools"] = prompt.tools
    if prompt.tags:
        row["tags"] = dict(prompt.tags)
    return row


def _is_plain(message: Message) -> bool:
    bare = message.tool_calls is None and message.name is None
    return bare and [part.kind for part in message.parts] == ["text"]
