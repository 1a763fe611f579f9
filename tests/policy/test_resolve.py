"""Where a model is found, and what is said when it is not."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefkit.core.errors import ModelError
from prefkit.policy.cache import cache_folder
from prefkit.policy.load import adapter_digest
from prefkit.policy.resolve import resolve_model


@pytest.fixture(autouse=True)
def own_cache(request, monkeypatch, tmp_path):
    if "smollm2" not in request.fixturenames:
        monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


def test_a_folder_is_used_where_it_stands(folder):
    source = resolve_model(str(folder))
    assert (source.kind, source.path, source.revision) == ("folder", folder, None)
    assert source.size_bytes == (folder / "model.safetensors").stat().st_size


def test_the_digest_follows_content_and_nothing_else(folder, tmp_path):
    first = resolve_model(str(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("of no account")
    assert resolve_model(str(copy)).digest == first.digest
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert resolve_model(str(copy)).digest != first.digest
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert resolve_model(str(folder)).digest != first.digest


def test_weights_are_read_for_their_digest_once(folder):
    first = resolve_model(str(folder))
    notes = sorted((cache_folder() / "digests").glob("*.json"))
    for note in notes:
        note.write_text(json.dumps({**json.loads(note.read_text()), "digest": "remembered"}))
    assert resolve_model(str(folder)).digest != first.digest, "the notes were not used"
    for note in notes:
        note.write_text("damaged")
    assert resolve_model(str(folder)).digest == first.digest


def spoil_no_config(folder):
    (folder / "config.json").unlink()


def spoil_config(folder):
    (folder / "config.json").write_text('{"a":')


def spoil_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def spoil_template(folder):
    (folder / "chat_template.jinja").unlink()


def spoil_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def spoil_shard(folder):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def spoil_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message", "hint"),
    [
        (spoil_no_config, "no config.json", "save_pretrained"),
        (spoil_config, "config.json:1: not JSON", "download"),
        (spoil_pickle, "only pickled pytorch_model.bin", "safetensors only"),
        (spoil_template, "no chat template", "instruction-tuned"),
        (spoil_tokenizer, "no tokenizer", "tokenizer.json"),
        (spoil_shard, "model-2.safetensors is missing", "again"),
        (spoil_adapter, "an adapter, not a model", "--adapter"),
    ],
)
def test_a_spoiled_folder_is_named_with_its_mend(folder, spoil, message, hint):
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        resolve_model(str(folder))
    assert str(folder) in caught.value.message
    assert hint in (caught.value.hint or "")


def test_an_unknown_name_is_met_with_the_nearest_one():
    with pytest.raises(ModelError, match="did you mean 'smollm2'"):
        resolve_model("smollm")
    with pytest.raises(ModelError, match="no such model"):
        resolve_model("./not/there")
    with pytest.raises(ModelError, match="no such GGUF file"):
        resolve_model("missing.gguf")


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"not a model" * 100)
    with pytest.raises(ModelError, match="not a readable GGUF"):
        resolve_model(str(path))
    assert list((cache_folder() / "models").iterdir()) == []


def test_an_adapter_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not an adapter folder"):
        adapter_digest(tmp_path)


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the Hub does: one gated model, one open one of three files."""

    root: str

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/org/gated"):
            return self.reply(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/org/open/revision/gone"):
            return self.reply(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
        names = sorted(os.listdir(self.root))
        if path.startswith("/api/models/org/open/tree/"):
            sizes = {n: os.path.getsize(os.path.join(self.root, n)) for n in names}
            tree = [{"type": "file", "path": n, "size": sizes[n], "oid": n} for n in names]
            return self.reply(200, json.dumps(tree).encode(), body, {})
        if path.startswith("/api/models/org/open"):
            info = {
                "id": "org/open",
                "sha": "c" * 40,
                "siblings": [{"rfilename": n} for n in names],
            }
            return self.reply(200, json.dumps(info).encode(), body, {})
        name = path.rpartition("/")[2]
        if path.startswith("/org/open/resolve/") and name in names:
            with open(os.path.join(self.root, name), "rb") as file:
                data = file.read()
            return self.reply(200, data, body, {"ETag": f'"{name}"', "X-Repo-Commit": "c" * 40})
        return self.reply(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

    def reply(self, status, data, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(folder):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    handler = type("Handler", (FakeHub,), {"root": str(folder)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()


RESOLVE = """
import sys
from prefkit.core.errors import ModelError
from prefkit.policy.resolve import resolve_model
try:
    source = resolve_model(sys.argv[1], progress=lambda what, *_: print("PROGRESS", what))
    print(source.kind, source.revision, sorted(p.name for p in source.path.iterdir()))
except ModelError as error:
    print(error.message, "|", error.hint)
"""


def ask(spec, endpoint, tmp_path, *, offline=False):
    """resolve_model in a process of its own: the Hub's address is read when it is imported."""
    env = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE, spec], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_gated_model_gives_its_licence_page_and_the_token_to_set(hub, tmp_path):
    said = ask("org/gated", hub, tmp_path)
    assert "gated" in said
    assert "https://huggingface.co/org/gated" in said
    assert "HF_TOKEN" in said


def test_an_unknown_model_or_revision_is_said_so(hub, tmp_path):
    assert "no such model on the Hub" in ask("org/nothing", hub, tmp_path)
    assert "no revision 'gone'" in ask("org/open@gone", hub, tmp_path)


def test_an_open_model_is_fetched_without_pickles_pinned_and_found_offline_later(hub, tmp_path):
    said = ask("org/open", hub, tmp_path)
    assert "PROGRESS downloading org/open (" in said
    assert f"hub {'c' * 40}" in said
    assert "model.safetensors" in said
    assert "pytorch_model.bin" not in said
    again = ask("org/open", "http://127.0.0.1:9", tmp_path, offline=True)
    assert again.strip() == said.splitlines()[-1]


def test_offline_without_the_model_names_the_cache_and_the_way_out(tmp_path):
    said = ask("org/other", "http://127.0.0.1:9", tmp_path, offline=True)
    assert "HF_HUB_OFFLINE is set" in said
    assert str(tmp_path / "hf" / "hub") in said
    assert "--model DIR" in said
    unreachable = ask("org/other", "http://127.0.0.1:9", tmp_path)
    assert "the Hub does not answer" in unreachable


def test_the_embedded_model_is_converted_once_and_answers_a_plain_question(smollm2):
    import torch

    from prefkit.core.records import Message, Prompt
    from prefkit.policy.load import load_policy
    from prefkit.policy.template import encode_prompt

    made = (smollm2.path / "model.safetensors").stat().st_mtime_ns
    assert resolve_model("smollm2") == smollm2
    assert (smollm2.path / "model.safetensors").stat().st_mtime_ns == made
    policy = load_policy(smollm2)
    prompt = Prompt.make([Message.of("user", "What is the capital of France?")])
    ids = torch.tensor([encode_prompt(policy.tokenizer, prompt)])
    with torch.no_grad():
        out = policy.model.generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in policy.tokenizer.decode(out[0, ids.shape[1] :])
