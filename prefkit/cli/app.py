"""The typer application and the one place where errors become exit codes.

Exit codes: 0 done or waiting for people, 1 something the user can mend, 2 a usage error of the
command line, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from prefkit.cli.output import show_error, stderr
from prefkit.core.errors import PrefkitError, ToldElsewhere, from_os_error
from prefkit.core.threads import wait_without_spinning

INTERRUPTED = 130

# verb → its one-line help, in the order of the main job. The module prefkit.cli.VERB (or that of
# MODULES) is imported only when its verb is used, so that `prefkit --help` answers at once.
VERBS = {
    "demo": "Run the whole job on a small model: generate, vote, curate, train, compare.",
    "init": "Make a workspace: prefkit.yaml with every key explained, prompts, rounds/.",
    "generate": "Sample answers to prompts and pair them into comparisons.",
    "annotate": "Open the browser app in which people label pairs.",
    "import": "Bring in pairs and votes: files, the Hub, Label Studio, Argilla, Potato.",
    "users": "Say who may log in to the app: add, passwd, role, disable, token, erase.",
    "judge": "Let a machine vote: a rule, a model as judge or a reward model.",
    "aggregate": "Turn votes into P(a wins) for each comparison.",
    "curate": "Filter a preference set; every dropped row keeps its reason.",
    "train": "Train a LoRA adapter with DPO on soft labels.",
    "merge": "Write an adapter merged into its base model, for vLLM and other tools.",
    "push": "Upload an adapter or model to the Hugging Face Hub.",
    "evaluate": "Compare two policies on held-out prompts, with an interval.",
    "loop": "Run rounds of generate, vote, curate, train and evaluate.",
    "export": "Write preferences for TRL and other tools.",
    "inspect": "Look at a data file: its layout, counts and first rows.",
    "doctor": "Check this machine and print the mend for each fault.",
    "status": "Say where each round stands and what to run next.",
    "store": "Look after the vote store: info, backup, verify, migrate.",
}
MODULES = {"import": "import_"}  # verbs whose names Python keeps for itself


class LazyGroup(TyperGroup):
    """Lists every verb without importing its module.

    Contexts and commands are Any: newer typer carries its own copy of click, older uses click's.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"prefkit.cli.{MODULES.get(cmd_name, cmd_name)}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.short_help = VERBS[cmd_name]
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Preference data and training in one kit. Start with: prefkit demo",
    epilog="Each command has --help and --json. Docs: README.md and docs/.",
)


def _version(value: bool) -> None:
    if value:
        from prefkit import __version__

        typer.echo(f"prefkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Preference data and training in one kit."""


def main() -> None:
    """Run the command line; errors that a user can mend end in one message and exit code 1."""
    wait_without_spinning()
    try:
        app(prog_name="prefkit", standalone_mode=True)
    except ToldElsewhere:
        sys.exit(1)
    except PrefkitError as error:
        show_error(error)
        sys.exit(1)
    except SystemExit as end:
        # typer turns Ctrl-C into this code and says nothing.
        if end.code == INTERRUPTED:
            stderr.print("interrupted; run the same command again to go on")
        raise
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        mendable = from_os_error(error, error.filename or "this command")
        if mendable is None:
            raise
        show_error(mendable)
        sys.exit(1)
