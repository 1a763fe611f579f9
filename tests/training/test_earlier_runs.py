"""What an earlier run left in OUT is gone on from, named before it is lost, or told."""

import json
import logging

import pytest
from safetensors import safe_open

from prefkit.core.errors import ConfigError, WorkspaceError
from prefkit.training import TrainSettings, loop, train


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "max_steps": 3, "batch_size": 4}
    values |= {"trackers": [], "reference_store": "none", "checkpoint_every": 1}
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return str(tiny_model_dir)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def killed(monkeypatch, *arguments, at="leave", **named):
    """A run that dies at ``at``: as it leaves its result, with a checkpoint at step 2."""

    def die(*_arguments, **_named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, at, die)
        with pytest.raises(KeyboardInterrupt):
            train(*arguments, **named)


def test_the_checkpoint_of_another_run_is_named_and_stays(model, pairs, tmp_path, monkeypatch):
    killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path)
    before = contents(tmp_path)
    assert any("checkpoints/step-00000002" in name for name in before)
    with pytest.raises(WorkspaceError, match="checkpoint of another run at step 2") as caught:
        train(model, pairs[:12], settings(beta=0.2), out=tmp_path, overwrite=False)
    assert "other data, model or settings" in caught.value.message
    assert "--overwrite" in (caught.value.hint or "")
    assert contents(tmp_path) == before
    again = train(model, pairs[:12], settings(), out=tmp_path, overwrite=False)
    assert again.resumed_from == 2


def test_with_overwrite_the_step_that_is_lost_is_told(model, pairs, tmp_path, monkeypatch, caplog):
    killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path)
    with caplog.at_level(logging.WARNING, logger="prefkit.training"):
        result = train(model, pairs[:12], settings(beta=0.2), out=tmp_path, overwrite=True)
    assert result.resumed_from is None
    assert [line for line in caplog.messages if "checkpoint of another run at step 2" in line]
    caplog.clear()
    killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path / "own")
    caplog.clear()
    assert train(model, pairs[:12], settings(), out=tmp_path / "own").resumed_from == 2
    assert not [line for line in caplog.messages if "another run" in line]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": {"targets": ["q_prj"]}}, "no linear layer q_prj"),
        ({"method_options": {"rr": 1}}, "rr"),
        ({"method": "prompt", "method_options": {"rr": 1}}, "rr"),
        ({"method": "prefix", "method_options": {"num_layers": 1}}, "prefkit sets it itself"),
        ({"method": "vera", "lora": {"targets": ["lm_head"]}}, "does not train the head"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_cost_nothing(model, pairs, tmp_path, changes, words):
    """No result, no checkpoint, and no hours of scoring another reference."""
    train(model, pairs[:12], settings(), out=tmp_path)
    before, said = contents(tmp_path), []
    with pytest.raises(ConfigError, match=words):
        train(
            model, pairs[:12], settings(reference=model, **changes), out=tmp_path,
            progress=lambda *what: said.append(what[0]),
        )  # fmt: skip
    assert contents(tmp_path) == before
    assert not said


def test_what_is_refused_as_weights_are_loaded_leaves_the_folder_as_it_was(
    model, pairs, tmp_path, monkeypatch
):
    train(model, pairs[:12], settings(), out=tmp_path / "done")
    killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path / "cut")
    said = []
    for out in (tmp_path / "done", tmp_path / "cut"):
        before = contents(out)
        with pytest.raises(ConfigError, match="need a CUDA device"):
            train(
                model, pairs[:12], settings(method="qlora", reference=model), out=out,
                progress=lambda *what: said.append(what[0]),
            )  # fmt: skip
        assert contents(out) == before
        assert not said, "another reference is not scored first"


def test_a_kill_after_the_manifest_leaves_no_checkpoint_for_good(
    model, pairs, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(loop.checkpoint, "clear", lambda *_, **__: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            train(model, pairs[:12], settings(), out=tmp_path)
    assert (tmp_path / "train.json").is_file()
    assert list((tmp_path / "checkpoints").iterdir())
    result = train(model, pairs[:12], settings(), out=tmp_path)
    assert result.steps == 3
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("at", ["leave", None])
def test_other_versions_make_another_run_and_are_named(model, pairs, tmp_path, monkeypatch, at):
    """Of a killed run and of one that is done."""
    from prefkit.training import identity

    here = identity.versions_here()
    assert set(here) == {"prefkit", "torch", "transformers", "peft"}
    with monkeypatch.context() as patched:
        patched.setattr(identity, "versions_here", lambda: {**here, "peft": "0.1"})
        if at:
            killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path)
        else:
            train(model, pairs[:12], settings(), out=tmp_path)
    before = contents(tmp_path)
    with pytest.raises(WorkspaceError, match=rf"but peft was 0.1 and is {here['peft']}"):
        train(model, pairs[:12], settings(), out=tmp_path, overwrite=False)
    assert contents(tmp_path) == before
    result = train(model, pairs[:12], settings(), out=tmp_path)
    assert result.resumed_from is None
    assert json.loads((tmp_path / "train.json").read_text())["versions"] == here


def test_a_checkpoint_says_what_wrote_it(model, pairs, tmp_path, monkeypatch):
    from prefkit.training import identity

    killed(monkeypatch, model, pairs[:12], settings(), out=tmp_path)
    (path,) = (tmp_path / "checkpoints").iterdir()
    with safe_open(str(path), framework="pt") as file:
        notes = file.metadata()
    assert json.loads(notes["versions"]) == identity.versions_here()
