"""``prefkit users``: who may log in to the app of a workspace, and as what."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.output import facts_table, finish, rows_table
from prefkit.cli.store import AsJson, Folder, open_store
from prefkit.core.errors import DataError, StoreError

if TYPE_CHECKING:
    from prefkit.store import VoteStore
    from prefkit.store.accounts import Account, Accounts
    from prefkit.store.tokens import TokenScope

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    help="Who may log in to the app of a workspace. Example: prefkit users add DIR kim --role lead",
)
LONGEST_NAME = 64


class Role(StrEnum):
    """What a person may do; each role includes the ones before it."""

    rater = "rater"
    reviewer = "reviewer"
    lead = "lead"


class Scope(StrEnum):
    """What a token may do."""

    read = "read"
    write = "write"
    admin = "admin"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The name they log in with.")]
FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from stdin; default: ask for it."),
]


@app.command()
def add(
    folder: Folder,
    name: Name,
    role: Annotated[
        Role,
        typer.Option(help="rater: votes. reviewer: settles disagreements too. lead: everything."),
    ] = Role.rater,
    password_stdin: FromStdin = False,
    as_json: AsJson = False,
) -> None:
    """Add a person; with the first one, the app asks everybody to log in.

    Someone who voted under this name by --rater keeps those votes.

    Example: prefkit users add pairs.prefkit kim --role lead
    """
    name = _checked(name)
    with open_store(folder, create=True)[1] as store:
        accounts = _accounts(store)
        first = not accounts.configured()
        password = _hashed(password_stdin)
        added = accounts.add(name, role.value, datetime.now(UTC), password=password)
    shown = [f"{added.name} may log in as {added.role}"]
    if first:
        shown.append("an app that is running asks for a log-in once it is started again")
    finish({"id": added.id, "name": added.name, "role": added.role}, as_json=as_json, screen=shown)


@app.command()
def passwd(
    folder: Folder, name: Name, password_stdin: FromStdin = False, as_json: AsJson = False
) -> None:
    """Give a person a new password; wherever they are logged in, they are no longer.

    Example: prefkit users passwd pairs.prefkit kim
    """
    with open_store(folder)[1] as store:
        accounts = _accounts(store)
        person = _person(accounts, name)
        accounts.set_password(person.id, _hashed(password_stdin))
    finish(
        {"id": person.id, "name": person.name},
        as_json=as_json,
        screen=[f"{person.name} has a new password and is logged out everywhere"],
    )


@app.command()
def role(
    folder: Folder,
    name: Name,
    to: Annotated[Role, typer.Argument(metavar="ROLE", help="rater, reviewer or lead.")],
    as_json: AsJson = False,
) -> None:
    """Give a person another role; it holds from their next click on.

    Example: prefkit users role pairs.prefkit kim reviewer
    """
    with open_store(folder)[1] as store:
        accounts = _accounts(store)
        person = _person(accounts, name)
        accounts.set_role(person.id, to.value)
    value = {"id": person.id, "name": person.name, "role": to.value}
    finish(value, as_json=as_json, screen=[f"{person.name} is a {to.value} now"])


@app.command()
def disable(
    folder: Folder,
    name: Name,
    again: Annotated[bool, typer.Option("--undo", help="Let them log in again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lock a person out at once, their tokens too; their votes stay and count.

    Example: prefkit users disable pairs.prefkit kim
    """
    with open_store(folder)[1] as store:
        accounts = _accounts(store)
        person = _person(accounts, name)
        accounts.disable(person.id, disabled=not again)
    value = {"id": person.id, "name": person.name, "disabled": not again}
    said = "may log in again" if again else "is locked out; their votes stay and count"
    finish(value, as_json=as_json, screen=[f"{person.name} {said}"])


@app.command("list")
def show(folder: Folder, as_json: AsJson = False) -> None:
    """List the people of a workspace and the tokens that hold.

    Example: prefkit users list pairs.prefkit
    """
    from prefkit.store.tokens import Tokens

    with open_store(folder)[1] as store:
        everyone = _accounts(store).everyone()
        held = [token for token in Tokens(store.database).all() if not token.ended]
    names = {person.id: person.name for person in everyone}
    people = [(p.name, p.role, _log_in(p), p.id, f"{p.at:%Y-%m-%d}") for p in everyone]
    tokens = [
        (t.id, names.get(t.user_id, ""), t.label, ", ".join(t.scopes), _until(t.expires_at))
        for t in held
    ]
    screen = [rows_table("people", ("name", "role", "logs in", "id", "since"), people)]
    if tokens:
        screen.append(rows_table("tokens", ("id", "acts for", "label", "scopes", "until"), tokens))
    value = {
        "people": [
            {"id": p.id, "name": p.name, "role": p.role, "logs_in": _log_in(p)} for p in everyone
        ],
        "tokens": [
            {**dataclasses.asdict(t), "at": t.at.isoformat(), "expires_at": _until(t.expires_at)}
            for t in held
        ],
    }
    finish(value, as_json=as_json, screen=screen)


@app.command()
def token(
    folder: Folder,
    name: Name,
    scope: Annotated[
        list[Scope], typer.Option(help="read, write or admin; several times for several.")
    ],
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it holds.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Make a token for the REST API that acts for a person; it is shown once.

    Example: prefkit users token pairs.prefkit kim --scope read
    """
    from prefkit.store.tokens import Tokens

    now = datetime.now(UTC)
    with open_store(folder)[1] as store:
        person = _person(_accounts(store), name)
        scopes: list[TokenScope] = [wanted.value for wanted in scope]
        until = now + timedelta(days=days)
        made, text = Tokens(store.database).make(person.id, label, scopes, now, until)
    facts: list[tuple[str, object]] = [
        ("acts for", f"{person.name} ({person.role})"),
        ("scopes", ", ".join(scopes)),
        ("until", _until(until)),
    ]
    value = {"token": text, "id": made.id, "expires_at": until.isoformat()}
    finish(value, as_json=as_json, screen=[text, facts_table("shown once", facts)])


@app.command()
def revoke(
    folder: Folder,
    token_id: Annotated[str, typer.Argument(help="The token's id, from `prefkit users list`.")],
    as_json: AsJson = False,
) -> None:
    """Let a token hold no more, at once.

    Example: prefkit users revoke pairs.prefkit 1f0c5a2e9b7d
    """
    from prefkit.store.tokens import Tokens

    with open_store(folder)[1] as store:
        if not Tokens(store.database).revoke(token_id):
            raise StoreError(
                f"{token_id!r} is the id of no token", hint="prefkit users list WORKSPACE"
            )
    finish({"revoked": token_id}, as_json=as_json, screen=[f"token {token_id} is revoked"])


@app.command()
def erase(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="A person's name, or their id in the store.")],
    texts: Annotated[
        bool, typer.Option("--texts", help="Also delete the rationales and edits they wrote.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a person's name and log-in from the store; their votes stay, under an opaque id.

    Copies of the store that were made earlier still hold what is removed here.

    Example: prefkit users erase pairs.prefkit kim --texts
    """
    with open_store(folder)[1] as store:
        erased, place = store.erase(name, words=texts), store.name
    shown = [f"{place}: the votes stay under {erased.id}; {erased.n_texts} texts deleted"]
    if erased.wiped is False:
        shown.append("the old bytes are still in the file: stop the app and erase the id again")
    shown.append("backups and copies made earlier still hold what was removed")
    finish({"store": place, **dataclasses.asdict(erased)}, as_json=as_json, screen=shown)


def _accounts(store: VoteStore) -> Accounts:
    from prefkit.store.accounts import Accounts

    return Accounts(store.database)


def _checked(name: str) -> str:
    from prefkit.store.accounts import plain_name

    name = plain_name(name)
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise DataError(
            f"{name!r}: expected a name of 1 to {LONGEST_NAME} printable characters",
            hint="for example: prefkit users add DIR kim",
        )
    return name


def _person(accounts: Accounts, name: str) -> Account:
    from prefkit.store.accounts import plain_name

    found = accounts.by_name(plain_name(name))
    if found is None:
        raise StoreError(f"{name!r} is nobody's name here", hint="prefkit users list WORKSPACE")
    return found


def _hashed(from_stdin: bool) -> str:
    """A new password's text, asked for twice, or the first line of stdin."""
    from prefkit.annotation.passwords import hash_password

    if from_stdin:
        return hash_password(sys.stdin.readline().rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise DataError("there is no terminal to ask for a password on", hint="--password-stdin")
    return hash_password(typer.prompt("password", hide_input=True, confirmation_prompt=True))


def _log_in(person: Account) -> str:
    if person.disabled:
        return "disabled"
    if person.federated:
        return "identity provider"
    return "password" if person.password is not None else "no"


def _until(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
