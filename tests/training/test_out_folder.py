"""A run removes and overwrites what runs made, and nothing else that lies in its folder."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tiny_adapter import build_tiny_adapter
from torch import zeros

from prefkit.core.errors import WorkspaceError
from prefkit.training import TrainSettings, train
from prefkit.training import launch as launching
from prefkit.training.loop import Run


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "max_steps": 1, "batch_size": 4}
    return TrainSettings(**{**values, "trackers": [], "reference_store": "none", **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_pairs(path: Path, pairs) -> Path:
    rows = [
        {
            "prompt": pair.prompt.text,
            "chosen": pair.chosen[0].text,
            "rejected": pair.rejected[0].text,
        }
        for pair in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "rows.jsonl", "samples.jsonl", "evaluations.jsonl", "worst.jsonl",
     "report.html", "train.json", "adapter/notes.txt"],
)  # fmt: skip
def test_a_file_of_anothers_stops_the_run_before_anything_is_loaded(
    pairs, tmp_path, name, overwrite
):
    """The model is not even looked for: there is none of this name."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('[{"mine": 1}]\n')
    (tmp_path / ".lock").touch()  # a workspace has one too
    before = contents(tmp_path)
    with pytest.raises(WorkspaceError, match=rf"{name.partition('/')[0]} would be replaced"):
        train("./no-such-model", pairs[:4], settings(), out=tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("what", ["model", "start", "reference"])
def test_the_folder_of_a_model_is_no_folder_for_a_run(tiny_model_dir, pairs, tmp_path, what):
    model = str(shutil.copytree(tiny_model_dir, tmp_path / "model"))
    start = build_tiny_adapter(tiny_model_dir, tmp_path / "start") if what != "model" else None
    plan = settings(reference=str(start)) if what == "reference" else settings()
    own = start or Path(model)
    before = contents(tmp_path)
    for out in (own, own / ".." / own.name):
        with pytest.raises(WorkspaceError, match="the folder of a model that the run reads"):
            train(model, pairs[:4], plan, out=out, start_adapter=None if start is None else start)
    assert contents(tmp_path) == before


def test_a_folder_may_be_called_as_a_reference_is(tiny_model_dir, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        train(str(tiny_model_dir), pairs[:4], settings(), out="base")
    assert (tmp_path / "base" / "train.json").is_file()


@pytest.mark.parametrize(
    ("name", "changes"),
    [("samples.jsonl", {}), ("train.json", {}), ("adapter", {}), ("model", {"method": "full"})],
)
def test_what_a_run_reads_it_does_not_replace(tiny_model_dir, pairs, tmp_path, name, changes):
    """Data, the adapter that training starts from and the base model; whoever made them."""
    model, data, start = str(tiny_model_dir), pairs[:4], None
    out = tmp_path / "out"
    first = train(model, data, settings(), out=out)
    if name == "model":
        model = str(shutil.copytree(tiny_model_dir, out / name))
    elif name == "adapter":
        start = first.adapter
    else:
        data = str(write_pairs(out / name, pairs[:4]))
    before = contents(out)
    with pytest.raises(WorkspaceError, match=rf"{name}: the run reads it"):
        train(model, data, settings(**changes), out=out, start_adapter=start)
    assert contents(out) == before


@pytest.mark.parametrize(
    ("name", "changes"), [("adapter", {}), ("model", {"method": "full"}), ("train.json", {})]
)
def test_a_folder_of_ours_does_not_make_a_result_in_it_ours(
    tiny_model_dir, pairs, tmp_path, name, changes
):
    """A run of the other kind was here; the model beside it, or merged into it, is another's."""
    other = {"method": "full"} if name == "adapter" else {}
    train(str(tiny_model_dir), pairs[:4], settings(**other), out=tmp_path)
    if name == "train.json":
        (tmp_path / name).write_text("[1, 2]")
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / "prefkit.json").write_text('{"form": "merged"}')
    before = contents(tmp_path)
    with pytest.raises(WorkspaceError, match=f"{name} would be replaced"):
        train(str(tiny_model_dir), pairs[:4], settings(beta=0.3, **changes), out=tmp_path)
    assert contents(tmp_path) == before


def test_what_others_keep_beside_a_run_stays(tiny_model_dir, pairs, tmp_path):
    """Checkpoints and events of other tools, and their temporary files; over two runs."""
    theirs = {
        "checkpoints/checkpoint-500/model.bin": b"x",
        "checkpoints/step-00000001.txt": b"x",
        "tensorboard/events.out.tfevents.1.host": b"x",
        "data.jsonl.tmp-999999999": b"x",
        "below/model.tmp-999999999": b"x",
        "model/config.json": b"{}",
    }
    for name, content in theirs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    unsigned = tmp_path / "checkpoints" / "step-00000009.safetensors"
    save_file({"a": zeros(1)}, str(unsigned))
    theirs["checkpoints/step-00000009.safetensors"] = unsigned.read_bytes()
    every = {"trackers": ["tensorboard"], "checkpoint_every": 1, "max_steps": 3}
    for beta in (0.1, 0.3):
        train(str(tiny_model_dir), pairs[:12], settings(beta=beta, **every), out=tmp_path)
        found = contents(tmp_path)
        assert {name: found[name] for name in theirs} == theirs
    assert {name for name in found if "/step-" in name} == {
        name for name in theirs if "/step-" in name
    }
    assert len([name for name in found if name.endswith(".prefkit")]) == 1


@pytest.mark.parametrize("at", ["loading", "first step", "leaving", "manifest"])
def test_a_run_that_died_anywhere_is_begun_again_in_its_folder(
    tiny_model_dir, pairs, tmp_path, monkeypatch, at
):
    """What each point of a run leaves does not stand in the way of the next."""

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    from prefkit.training import loop

    owner, name = {
        "loading": (launching, "load_policy"),
        "first step": (Run, "_step"),
        "leaving": (loop, "leave"),
        "manifest": (loop, "write_manifest"),
    }[at]
    plan = settings(trackers=["tensorboard"])
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, die)
        with pytest.raises(KeyboardInterrupt):
            train(str(tiny_model_dir), pairs[:4], plan, out=tmp_path)
    result = train(str(tiny_model_dir), pairs[:4], plan, out=tmp_path, overwrite=False)
    assert result.steps == 1


def test_a_folder_copied_without_hidden_files_is_still_a_runs(tiny_model_dir, pairs, tmp_path):
    """By its manifest, and where it was killed by its checkpoint."""
    train(str(tiny_model_dir), pairs[:4], settings(), out=tmp_path / "a")
    copied = tmp_path / "b"
    shutil.copytree(tmp_path / "a", copied, ignore=shutil.ignore_patterns(".*"))
    assert train(str(tiny_model_dir), pairs[:4], settings(seed=1), out=copied).steps == 1
    (tmp_path / "a" / ".prefkit-train").unlink()
    (tmp_path / "a" / "train.json").unlink()
    (tmp_path / "a" / "checkpoints").mkdir()
    save_file(
        {"a": zeros(1)},
        str(tmp_path / "a" / "checkpoints" / "step-00000001.safetensors"),
        metadata={"run": "another"},
    )
    assert train(str(tiny_model_dir), pairs[:4], settings(seed=1), out=tmp_path / "a").steps == 1
