"""``prefkit users`` as commands, and what ``prefkit annotate`` makes of the people it finds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from store_cases import pairs

from prefkit.annotation.passwords import verify_password
from prefkit.store import VoteStore
from prefkit.store.accounts import Accounts
from prefkit.store.tokens import Tokens

PASSWORD = "correct horse battery"


def prefkit(*words, said=""):
    return subprocess.run(
        [sys.executable, "-m", "prefkit", *map(str, words)],
        capture_output=True,
        text=True,
        input=said,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "prefkit.yaml").write_text("annotate:\n  k: 1\n")
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(2))
    return tmp_path


def add(folder, name="kim", role="lead", password=PASSWORD):
    return prefkit("users", "add", folder, name, "--role", role, "--password-stdin", said=password)


def test_a_person_is_added_changed_and_locked_out(folder):
    assert "kim may log in as lead" in add(folder).stdout
    again = add(folder)
    assert (again.returncode, "log in already" in again.stderr) == (1, True)
    changed = prefkit("users", "passwd", folder, "kim", "--password-stdin", said="another password")
    assert changed.returncode == 0, changed.stderr
    assert prefkit("users", "role", folder, "kim", "reviewer").returncode == 0
    with VoteStore.open(folder / "votes.db") as store:
        kim = Accounts(store.database).by_name("kim")
    assert verify_password(kim.password, "another password")
    assert (kim.role, kim.disabled) == ("reviewer", False)
    locked = prefkit("users", "disable", folder, "kim", "--json")
    assert json.loads(locked.stdout) == {"id": kim.id, "name": "kim", "disabled": True}
    listed = prefkit("users", "list", folder, "--json")
    (person,) = json.loads(listed.stdout)["people"]
    assert (person["name"], person["logs_in"]) == ("kim", "disabled")
    assert prefkit("users", "disable", folder, "kim", "--undo").returncode == 0


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (("add", "kim", "--password-stdin"), "short", "10 to 200"),
        (("add", "  ", "--password-stdin"), PASSWORD, "printable"),
        (("add", "a\nb", "--password-stdin"), PASSWORD, "printable"),
        (("add", "kim"), PASSWORD, "--password-stdin"),
        (("passwd", "nobody", "--password-stdin"), PASSWORD, "nobody's name"),
        (("revoke", "nothing"), "", "id of no token"),
    ],
)
def test_what_is_refused_says_why(folder, words, said, hint):
    verb, *rest = words
    done = prefkit("users", verb, folder, *rest, said=said)
    assert done.returncode == 1
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr


def test_a_token_is_shown_once_and_holds_until_it_is_revoked(folder):
    add(folder)
    made = prefkit("users", "token", folder, "kim", "--scope", "read", "--label", "ci")
    token = made.stdout.splitlines()[0]
    with VoteStore.open(folder / "votes.db") as store:
        found = Tokens(store.database).find(token, datetime.now(UTC))
    assert found.scopes == {"read"}
    listed = prefkit("users", "list", folder).stdout
    assert token.split("_")[1] in listed
    assert token.split("_")[2] not in listed
    assert prefkit("users", "revoke", folder, token.split("_")[1]).returncode == 0
    with VoteStore.open(folder / "votes.db") as store:
        assert Tokens(store.database).find(token, datetime.now(UTC)) is None


def test_an_erased_person_has_no_name_left_in_the_file(folder):
    add(folder, "kimberley")
    done = prefkit("users", "erase", folder, "kimberley", "--json")
    assert done.returncode == 0, done.stderr
    assert b"kimberley" not in (folder / "votes.db").read_bytes()
    assert json.loads(prefkit("users", "list", folder, "--json").stdout)["people"] == []


def start(folder, *words):
    """``prefkit annotate`` until it answers; the process and its address."""
    command = [sys.executable, "-m", "prefkit", "annotate", str(folder), "--no-browser"]
    running = subprocess.Popen(
        [*command, "--port", "0", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    said = []
    for line in running.stderr:
        said.append(line)
        if "votes in" in line:
            break
    text = "".join(said)
    found = re.search(r"http://[^/\s]+/", text)
    return running, found.group() if found else "", text


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def stop(running):
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)


def test_without_accounts_the_app_answers_to_this_machine_and_says_so(folder):
    running, url, said = start(folder, "--rater", "kim")
    try:
        assert "no accounts" in said
        assert status(f"{url}api/v1/next") == 200
    finally:
        stop(running)
    refused = prefkit("annotate", folder, "--no-browser", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "without accounts" in refused.stderr
    assert "prefkit users add" in refused.stderr


def test_with_accounts_everybody_logs_in_here_too(folder):
    add(folder)
    running, url, said = start(folder)
    try:
        assert "people log in" in said
        assert status(f"{url}api/v1/next") == 401
        assert status(f"{url}login") == 200
    finally:
        stop(running)
    refused = prefkit("annotate", folder, "--no-browser", "--rater", "kim")
    assert (refused.returncode, "has accounts" in refused.stderr) == (1, True)
    # Nobody is let in again because the last account was locked.
    prefkit("users", "disable", folder, "kim")
    running, url, _ = start(folder)
    try:
        assert status(f"{url}api/v1/next") == 401
    finally:
        stop(running)


def test_on_every_address_the_app_must_know_its_own(folder):
    add(folder)
    refused = prefkit("annotate", folder, "--no-browser", "--host", "0.0.0.0", "--port", "0")
    assert (refused.returncode, "public_url" in refused.stderr) == (1, True)
    nowhere = prefkit("annotate", folder, "--no-browser", "--host", "192.0.2.1", "--port", "0")
    assert (nowhere.returncode, "not an address of this machine" in nowhere.stderr) == (1, True)
    (folder / "prefkit.yaml").write_text("annotate:\n  public_url: https://label.example.org\n")
    running, url, _ = start(folder, "--host", "0.0.0.0")
    stop(running)
    assert url == ""  # what is said is the address that people use
    assert running.returncode == 0
