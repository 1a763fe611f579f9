"""The labelling app: Gradio for the shell, prefkit's own routes for every vote.

The rater's page (rater_page.py) is one ``gr.HTML`` component; its script talks to /api/v1.
Nothing is fetched from another machine, and nothing is sent to one.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefkit.annotation.hosting import check_space
from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import Upkeep, jobs, prepare
from prefkit.core.errors import ConfigError, EnvironmentFault, require
from prefkit.rounds.project import read_project
from prefkit.store import VoteStore
from prefkit.store.accounts import Accounts
from prefkit.store.heads import find_or_make_key
from prefkit.store.outbox import Outbox
from prefkit.store.tokens import Tokens
from prefkit.workspace import Workspace
from prefkit_apps.lead_page import add_lead_page
from prefkit_apps.rater_page import rater_page, read_asset, style, translations

if TYPE_CHECKING:
    from fastapi import FastAPI

    from prefkit.annotation.app import Parts
    from prefkit.annotation.auth import Who

LOOPBACK = ("127.0.0.1", "localhost")
ANY_ADDRESS = ("0.0.0.0", "::", "")
DEFAULT_RATER = "annotator"
MOST_CONNECTIONS = 1000  # at once; 503 beyond
IDLE_SECONDS = 15
_TURN_SECONDS = 0.0005
_SECONDS_TO_STOP = 1  # Gradio keeps a stream open for each tab: do not wait for it


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the app answers. local: who labels there without a log-in, None with accounts."""

    url: str
    local: str | None


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    open_browser: bool = True,
    rater: str | None = None,
    on_ready: Callable[[Ready], None] = lambda ready: None,
) -> None:
    """Serve the labelling app of ``workspace`` until Ctrl-C or SIGTERM.

    port: None for the one in prefkit.yaml, 0 for any free one. rater: who labels where there are
    no accounts. on_ready is called once the app answers. Raises EnvironmentFault: the port is in
    use, a Space that would lose the votes, or host is another than this machine's own and there are
    no accounts. ConfigError: a rater although there are accounts. A missing extra raises
    MissingExtra.
    """
    for package in ("fastapi", "uvicorn", "argon2"):
        require(package, "app")
    from prefkit.annotation.auth import Who
    from prefkit.annotation.webhooks import Sender

    project = read_project(workspace)
    settings = project.annotate
    check_space(workspace.path, settings.store)
    with VoteStore.open(settings.store or workspace.store_path, home=workspace.path) as store:
        accounts = Accounts(store.database)
        with_accounts = settings.oidc is not None or accounts.configured()
        _check_reach(host, settings, with_accounts=with_accounts)
        local = None
        if not with_accounts:
            name = rater or DEFAULT_RATER
            local = Who(store.rater_id(name), name, "lead", "local")
        elif rater is not None:
            raise ConfigError(
                f"--rater {rater}: this workspace has accounts, and people log in",
                hint="leave --rater out",
            )
        with _listen(host, settings.port if port is None else port) as listener:
            bound: int = listener.getsockname()[1]
            prepare(store, settings)
            parts = _parts(workspace, store, settings, host, bound, local)
            parts = replace(parts, method=project.aggregate.method)
            app = build_page(parts, next_command(workspace))
            url = _home(settings, host, bound)
            ready = Ready(f"{url}/", None if local is None else local.name)
            sender = Sender(Outbox(store.database), private=settings.webhooks_private)
            upkeep = Upkeep(jobs(store, parts.session.leases, settings))
            # The thread that writes gives way at each statement, and another that draws Markdown
            # keeps the interpreter for 5 ms each time: a vote has twenty statements.
            sys.setswitchinterval(_TURN_SECONDS)
            with sender, upkeep, parts.session.warmer:
                _run(app, listener, lambda: _announce(ready, on_ready, open_browser))


def _check_reach(host: str, settings: AnnotateSettings, *, with_accounts: bool) -> None:
    """Refuse to be reached from elsewhere before it is known who may come in."""
    if host in LOOPBACK:
        return
    if not with_accounts:
        raise EnvironmentFault(
            f"--host {host}: without accounts the app is served on 127.0.0.1 only",
            hint="add people first: prefkit users add DIR NAME --role lead; or leave --host out "
            "and use ssh -L 7860:127.0.0.1:7860 HOST",
        )
    if host in ANY_ADDRESS and settings.public_url is None:
        raise EnvironmentFault(
            f"--host {host}: the app must know the address that people use",
            hint="set annotate.public_url in prefkit.yaml, or give --host one address",
        )


def _parts(
    workspace: Workspace,
    store: VoteStore,
    settings: AnnotateSettings,
    host: str,
    port: int,
    local: Who | None,
) -> Parts:
    from prefkit.annotation.app import Parts
    from prefkit.annotation.auth import KEY_NAME, KEY_VARIABLE, Sessions
    from prefkit.annotation.oidc import Provider

    key = find_or_make_key(workspace.path, KEY_NAME, KEY_VARIABLE)
    assert key is not None, "a workspace is a folder"
    secure = (settings.public_url or "").startswith("https://")
    tokens = Tokens(store.database)
    sessions = Sessions(
        Accounts(store.database),
        tokens,
        key,
        hours=settings.session_hours,
        # Cookies know no ports: two apps on one machine must not log each other out.
        cookie="__Host-prefkit" if secure else f"prefkit-{port}",
        secure=secure,
        local=local,
    )
    provider = None
    if settings.oidc is not None:
        back = f"{_home(settings, host, port)}/login/oidc/back"
        provider = Provider(settings.oidc, sessions, back)
    return Parts(
        store=store,
        session=Session(store, settings),
        sessions=sessions,
        tokens=tokens,
        settings=settings,
        port=port,
        login_page=read_asset("login.html"),
        host=None if host in (*LOOPBACK, *ANY_ADDRESS) else _shown(host),
        provider=provider,
        media=workspace.path / settings.media,
    )


def _home(settings: AnnotateSettings, host: str, port: int) -> str:
    """The address that people open, without a slash at its end."""
    return (settings.public_url or f"http://{_shown(host)}:{port}").rstrip("/")


def _shown(host: str) -> str:
    """A host as it stands in an address."""
    return f"[{host}]" if ":" in host else host


def next_command(workspace: Workspace) -> str:
    """What to run when the labelling is done."""
    return f"prefkit export {_short(str(workspace.path))} --to trl"


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    shown = relative if not relative.startswith("..") else path
    return f"'{shown}'" if " " in shown else shown


def build_page(parts: Parts, command: str) -> FastAPI:
    """The app with its Gradio pages at / and /lead. command: what to run when all is labelled."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    gr = require("gradio", "app")
    from prefkit.annotation.app import build_app

    page = rater_page()
    add_lead_page(page)
    return gr.mount_gradio_app(
        build_app(replace(parts, next_command=command)),
        page,
        path="/",
        server_name="127.0.0.1",
        server_port=parts.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size="1kb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        theme=gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=style(),
        i18n=translations(),
    )


def _listen(host: str, port: int) -> socket.socket:
    """The bound socket, so that a port in use is known before anything else is done."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise EnvironmentFault(
            f"--host {host}: no address of that name", hint="an address of this machine"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)
    except PermissionError:
        listener.close()
        raise EnvironmentFault(
            f"port {port}: this user may not open it", hint="--port 7860, or any above 1023"
        ) from None
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise EnvironmentFault(
                f"--host {host}: not an address of this machine", hint="leave --host out"
            ) from None
        raise EnvironmentFault(
            f"port {port} on {host} is in use",
            hint=f"--port {port + 1 if port < 65535 else 7860}, or --port 0 for any free one",
        ) from None
    return listener


def _run(app: FastAPI, listener: socket.socket, started: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Ends without a traceback or a signal of its own: Ctrl-C is how this app is closed."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

        @contextmanager
        def capture_signals(self) -> Generator[None]:
            with _quiet_signals(super().capture_signals, self):
                yield

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_SECONDS_TO_STOP,
        server_header=False,
        proxy_headers=False,  # whom to believe is said by annotate.proxies
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
    )
    Server(config).run(sockets=[listener])


@contextmanager
def _quiet_signals(capture: Callable[[], Any], server: Any) -> Generator[None]:
    """uvicorn raises the signals it caught once more at its end; drop them before it does."""
    with capture():
        try:
            yield
        finally:
            server._captured_signals.clear()


def _announce(ready: Ready, on_ready: Callable[[Ready], None], open_browser: bool) -> None:
    on_ready(ready)
    if open_browser:
        # In a thread: a text browser would otherwise hold the server until it is closed.
        threading.Thread(target=webbrowser.open, args=(ready.url,), daemon=True).start()
