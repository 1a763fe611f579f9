"""The upload as the Hub sees it: one commit, every file whole, no path of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from adapters import trained_folder
from hub_server import TOKEN, HubServer

from prefkit.core.errors import EnvironmentFault, ModelError
from prefkit.training.push import public_texts, push_to_hub


@pytest.fixture
def hub():
    server = HubServer()
    yield server
    server.close()


def push(hub, *arguments, token=TOKEN):
    """``prefkit push`` in a process of its own: the Hub's client reads its settings once."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "prefkit", "push", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_an_adapter_arrives_whole_in_one_commit_without_local_paths(hub, tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    done = push(hub, folder, "me/first", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] == f"{hub.url}/me/first/commit/{'a' * 40}"
    assert hub.n_commits == 1
    assert hub.private == {"me/first": "private"} or hub.private == {"me/first": True}
    sent = {name.removeprefix("me/first/"): data for name, data in hub.files.items()}
    assert set(sent) == {p.name for p in folder.iterdir()}
    weights = "adapter_model.safetensors"
    assert sent[weights] == (folder / weights).read_bytes()
    assert not [name for name, data in sent.items() if str(tiny_model_dir.parent).encode() in data]
    config = json.loads(sent["adapter_config.json"])
    assert config["base_model_name_or_path"] == tiny_model_dir.name
    assert str(tiny_model_dir) in (folder / "adapter_config.json").read_text()  # here it stays


def test_paths_in_names_and_below_the_home_stay_here_and_addresses_do_not_change(
    tiny_model_dir, tmp_path
):
    """A rater's name holds its path in older data; names of JSON objects are texts too."""
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    facts = json.loads((folder / "prefkit.json").read_text())
    facts["data"] = {"judges": ["reward:/home/ann/run/adapter"], "sources": {"/srv/ann/q.jsonl": 3}}
    facts["settings"] |= {"reference": "~/ann/ref", "page": "https://example.org/ann/x"}
    (folder / "prefkit.json").write_text(json.dumps(facts))
    (folder / "README.md").write_text("machines: `reward:/home/ann/run/adapter`")
    texts = public_texts(folder)
    public = json.loads(texts["prefkit.json"])
    assert public["data"] == {"judges": ["reward:adapter"], "sources": {"q.jsonl": 3}}
    assert public["settings"]["reference"] == "ref"
    assert public["settings"]["page"] == "https://example.org/ann/x"
    assert texts["README.md"] == "machines: `reward:adapter`"


def test_what_lies_in_hidden_folders_is_not_uploaded(hub, tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    names = {path.name for path in folder.iterdir()}
    for name in (".git/config", ".cache/huggingface/x.metadata", "notes/.ipynb_checkpoints/a.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("token")
    assert push(hub, folder, "me/first").returncode == 0
    assert {name.removeprefix("me/first/") for name in hub.files} == names


def test_a_token_without_rights_is_explained(hub, tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    done = push(hub, folder, "me/first", token="hf_stranger")
    assert done.returncode == 1
    assert "me/first: the Hub refused the upload (401)" in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.files == {}


def test_offline_says_so_and_uploads_nothing(tiny_model_dir, tmp_path):
    """The suite runs with HF_HUB_OFFLINE=1."""
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    with pytest.raises(EnvironmentFault, match="cannot be reached") as caught:
        push_to_hub(folder, "me/first")
    assert "HF_HUB_OFFLINE" in (caught.value.hint or "")


def test_a_base_of_the_hub_is_named_by_its_hub_id(tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    facts = json.loads((folder / "prefkit.json").read_text())
    facts["base"] |= {"hub": "org/base", "kind": "embedded", "spec": "smollm2"}
    (folder / "prefkit.json").write_text(json.dumps(facts))
    texts = public_texts(folder)
    assert json.loads(texts["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert "from_pretrained('org/base'" in texts["README.md"]


@pytest.mark.parametrize(
    ("make", "repo", "words"),
    [
        (lambda f: f.mkdir(), "me/x", "neither an adapter nor a model"),
        (lambda f: None, "me/x", "neither an adapter nor a model"),
    ],
)
def test_what_is_no_model_is_not_pushed(make, repo, words, tmp_path):
    folder = tmp_path / "f"
    make(folder)
    with pytest.raises(ModelError, match=words):
        push_to_hub(folder, repo)


def test_a_repository_needs_an_owner(tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "lora", tmp_path)
    with pytest.raises(ModelError, match="nameonly"):
        push_to_hub(folder, "nameonly")
