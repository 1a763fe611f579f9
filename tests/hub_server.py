"""As much of the Hugging Face Hub as an upload needs, over real HTTP, in this process."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_writer"


class HubServer:
    """Keeps what is committed in ``files``, repository/path → bytes, and the visibility asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.private: dict[str, bool | None] = {}
        self.n_commits = 0
        self._blobs: dict[str, bytes] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, data: bytes) -> dict[str, Any]:
        """What the Hub says to a POST."""
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            body = json.loads(data)
            repo = f"{body['organization']}/{body['name']}"
            self.private[repo] = body.get("visibility", body.get("private"))
            return {"url": f"{self.url}/{repo}"}
        if "/preupload/" in path:
            files = json.loads(data)["files"]
            return {
                "files": [
                    {
                        "path": f["path"],
                        "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for f in files
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(data)["objects"]
            return {
                "transfer": "basic",
                "objects": [
                    {**o, "actions": {"upload": {"href": f"{self.url}/blob/{o['oid']}"}}}
                    for o in wanted
                ],
            }
        return self._commit(path, data)

    def put(self, path: str, data: bytes) -> None:
        """A large file, by the digest under which a commit will name it."""
        oid = path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == oid
        self._blobs[oid] = data

    def _commit(self, path: str, data: bytes) -> dict[str, Any]:
        repo = path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in data.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[f"{repo}/{value['path']}"] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[f"{repo}/{value['path']}"] = self._blobs[value["oid"]]
        self.n_commits += 1
        return {
            "success": True,
            "commitUrl": f"{self.url}/{repo}/commit/{'a' * 40}",
            "commitOid": "a" * 40,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self._body()
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self._reply(401, {"error": "Invalid username or password."})
                return self._reply(200, server.answer(self.path.partition("?")[0], data))

            def do_PUT(self) -> None:
                server.put(self.path, self._body())
                self._reply(200, {})

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _reply(self, code: int, value: dict[str, Any]) -> None:
                data = json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
