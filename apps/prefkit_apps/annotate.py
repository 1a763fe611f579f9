"""The labelling app: Gradio for the shell, prefkit's own routes for every vote.

The pair view is one ``gr.HTML`` component; its script talks to /api/v1 (annotation/api.py).
Nothing is fetched from another machine, and nothing is sent to one.
"""

from __future__ import annotations

import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from prefkit.annotation.session import Session
from prefkit.annotation.settings import AnnotateSettings
from prefkit.annotation.upkeep import Upkeep, jobs, prepare
from prefkit.core.errors import EnvironmentFault, require
from prefkit.rounds.project import read_project
from prefkit.store import VoteStore
from prefkit.workspace import Workspace

if TYPE_CHECKING:
    import gradio
    from fastapi import FastAPI

LOOPBACK = ("127.0.0.1", "localhost")
_SECONDS_TO_STOP = 1  # Gradio keeps a stream open for each tab: do not wait for it


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    open_browser: bool = True,
    rater: str = "annotator",
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the labelling app of ``workspace`` until Ctrl-C or SIGTERM.

    port: None for the one in prefkit.yaml, 0 for any free one. on_ready gets the address once
    the app answers. Raises EnvironmentFault: the port is in use, or host is another than this
    machine's own (there are no accounts in this version). A missing extra raises MissingExtra.
    """
    if host not in LOOPBACK:
        raise EnvironmentFault(
            f"--host {host}: the app has no accounts yet and is served on 127.0.0.1 only",
            hint="leave --host out; from another machine use ssh -L 7860:127.0.0.1:7860 HOST",
        )
    settings = read_project(workspace).annotate
    listener = _listen(settings.port if port is None else port)
    address = settings.store or workspace.store_path
    with listener, VoteStore.open(address, home=workspace.path) as store:
        bound: int = listener.getsockname()[1]
        rater_id = store.rater_id(rater)
        prepare(store, settings)
        session = Session(store, settings)
        app = build_app(session, store, settings, rater_id, bound, next_command(workspace))
        with Upkeep(jobs(store, session.leases, settings)):
            _run(app, listener, lambda: _announce(bound, on_ready, open_browser))


def next_command(workspace: Workspace) -> str:
    """What to run when the labelling is done."""
    return f"prefkit export {_short(str(workspace.path))} --to trl"


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    shown = relative if not relative.startswith("..") else path
    return f"'{shown}'" if " " in shown else shown


def build_app(
    session: Session,
    store: VoteStore,
    settings: AnnotateSettings,
    rater: str,
    port: int,
    command: str,
) -> FastAPI:
    """The API with the page mounted on it at /."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    require("fastapi", "app")
    require("uvicorn", "app")
    gr = require("gradio", "app")
    from prefkit.annotation.api import build_api

    api = build_api(session, store, settings, rater, port)
    return gr.mount_gradio_app(
        api,
        _page(command),
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size="1kb",
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=_asset("pair_view.css"),
    )


def _page(command: str) -> gradio.Blocks:
    import gradio as gr

    with gr.Blocks(title="prefkit: label pairs", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            html_template=_asset("pair_view.html"),
            js_on_load=_asset("pair_view.js"),
            apply_default_css=False,
            padding=False,
            next_command=command,
        )
    return page


def _asset(name: str) -> str:
    return files("prefkit_apps").joinpath("assets", name).read_text(encoding="utf-8")


def _listen(port: int) -> socket.socket:
    """The bound socket, so that a port in use is known before anything else is done."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except PermissionError:
        listener.close()
        raise EnvironmentFault(
            f"port {port}: this user may not open it", hint="--port 7860, or any above 1023"
        ) from None
    except OSError:
        listener.close()
        raise EnvironmentFault(
            f"port {port} on 127.0.0.1 is in use",
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


def _announce(port: int, on_ready: Callable[[str], None], open_browser: bool) -> None:
    url = f"http://127.0.0.1:{port}/"
    on_ready(url)
    if open_browser:
        # In a thread: a text browser would otherwise hold the server until it is closed.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
