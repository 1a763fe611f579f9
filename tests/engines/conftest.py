"""A small OpenAI-compatible server in this process: real HTTP, answers that can be slowed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefkit.core.records import Message, Prompt, Sampling
from prefkit.engines import Request


class ChatServer:
    """Echoes the question with the seed. failures: HTTP codes for the next calls, by question."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked: Counter[tuple[str, int]] = Counter()
        self.keys: set[str | None] = set()
        self.failures: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, body: dict) -> tuple[int, dict]:
        question = body["messages"][-1]["content"]
        with self._lock:
            self.asked[question, body["seed"]] += 1
            codes = self.failures.get(question, [])
            code = codes.pop(0) if codes else 200
        time.sleep(self.seconds)
        text = f"{question} answered with {body['seed']}"
        return code, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(200, {"data": [{"id": "small"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.add(self.headers.get("Authorization"))
                self._reply(*server.answer(body))

            def _reply(self, code: int, value: dict) -> None:
                data = json.dumps(value).encode()
                try:
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except ConnectionError:
                    pass  # the client was killed, which is what some tests do

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def chat_server():
    server = ChatServer()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def make_requests():
    def make(count: int, *, n: int = 2, temperature: float = 1.0, max_tokens: int = 8):
        sampling = Sampling(temperature, 1.0, max_tokens)
        return [
            Request(Prompt.make([Message.of("user", f"question {i}")]), n, sampling, 5)
            for i in range(count)
        ]

    return make
