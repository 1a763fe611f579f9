"""Every tracker really writes, offline, and its own package reads back what was logged."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_facts import needs, scalars

from prefkit.core.errors import ConfigError, MissingExtra
from prefkit.training import trackers
from prefkit.training.event_file import EventFile
from prefkit.training.trackers import TRACKERS, TrackedRun, check_trackers, open_trackers

RUN = "0123456789abcdef" * 2
LOGGED = {1: {"train/loss": 0.6931, "train/reward_accuracy": 0.5}, 2: {"train/loss": 0.25}}
# The tests of wandb, trackio and mlflow set what their packages read on import.
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def no_network(monkeypatch):
    """Only this machine can be reached: nothing is sent anywhere."""
    connect, called = socket.socket.connect, []

    def only_here(self, address):
        local = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            called.append(address)
            raise ConnectionRefusedError(f"a tracker calls {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    yield
    assert called == []


def run_of(out, kept=()):
    return TrackedRun(out, RUN, "a run", {"loss": "sigmoid", "lora": {"r": 16}}, kept)


def log_all(name, out, steps=LOGGED, kept=()):
    (tracker,) = open_trackers([name], run_of(out, kept))
    for step, values in steps.items():
        tracker.log(step, values)
    tracker.close()


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=200).filter(lambda tag: tag.isprintable()),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=3),
        max_size=3,
    ),
    st.integers(0, 2**40),
)
def test_tensorboard_reads_what_the_event_file_wrote(tmp_path_factory, tags, first):
    folder = tmp_path_factory.mktemp("tb")
    with EventFile(folder) as file:
        for tag, values in tags.items():
            for offset, value in enumerate(values):
                file.scalars(first + offset, {tag: value})
    expected = {
        tag: [(first + offset, value) for offset, value in enumerate(values)]
        for tag, values in tags.items()
        if values
    }
    assert scalars(folder) == expected


def test_the_checksum_is_crc32c():
    """The check value of CRC-32C is e3069283 for "123456789" (RFC 3720, B.4, and every table)."""
    from prefkit.training.event_file import _checksum

    (masked,) = struct.unpack("<I", _checksum(b"123456789"))
    unmasked = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (unmasked << 15 | unmasked >> 17) & 0xFFFFFFFF == 0xE3069283


def test_tensorboard_has_each_step_once_after_a_kill(tmp_path):
    log_all("tensorboard", tmp_path)
    log_all("tensorboard", tmp_path, {2: {"train/loss": 0.5}}, kept=[(1, LOGGED[1])])
    found = scalars(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, pytest.approx(0.6931)), (2, 0.5)]
    assert found["train/reward_accuracy"] == [(1, 0.5)]


def wandb_records(path):
    """The records of an offline run: a log of 32 KiB blocks, 7 bytes before each part."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def test_wandb_runs_offline_under_the_digest_of_the_run(tmp_path, monkeypatch, capfd):
    needs("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    log_all("wandb", tmp_path)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(path))
    (started,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (started.run_id, started.project) == (RUN, "prefkit")
    seen = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = {(i.key or i.nested_key[0]): json.loads(i.value_json)
                     for i in record.history.item}  # fmt: skip
            seen[items["_step"]] = {k: v for k, v in items.items() if k.startswith("train/")}
    assert seen == LOGGED
    assert capfd.readouterr().out == ""


def test_wandb_obeys_its_users_mode(tmp_path, monkeypatch):
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log_all("wandb", tmp_path)
    assert not list(tmp_path.glob("wandb/offline-run-*"))


def test_mlflow_writes_into_the_run_and_goes_on_after_a_kill(tmp_path, monkeypatch, capfd):
    mlflow = needs("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    log_all("mlflow", out, {1: LOGGED[1]})
    log_all("mlflow", out, {2: LOGGED[2]}, kept=[(1, LOGGED[1])])
    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("prefkit")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.6931), (2, 0.25)]
    assert run.data.params["loss"] == "sigmoid"
    assert run.info.status == "FINISHED"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert capfd.readouterr().out == ""


def test_wandb_online_without_a_key_is_refused_with_what_mends_it(tmp_path, monkeypatch):
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="wandb takes no run") as caught:
        open_trackers(["tensorboard", "wandb"], run_of(tmp_path))
    assert "wandb login" in str(caught.value.hint)
    assert "leave wandb out of trackers" in str(caught.value.hint)


def test_a_wandb_run_that_ended_elsewhere_is_named_once_and_the_run_goes_on(
    tmp_path, monkeypatch, caplog
):
    wandb = needs("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    (tracker,) = open_trackers(["wandb"], run_of(tmp_path))
    wandb.teardown()  # the service that takes the numbers is gone
    tracker.log(1, LOGGED[1])
    tracker.log(2, LOGGED[2])
    tracker.close()
    told = [r.message for r in caplog.records if r.message.endswith("metrics.jsonl goes on")]
    assert len(told) == 1
    assert told[0].startswith("wandb takes no more of this run (")


class Oddity(Exception):
    """Of no base class that anyone could name."""


class Failing:
    """A package's tracker that fails at ``at``."""

    def __init__(self, at: str) -> None:
        self.at, self.calls = at, []
        self._do("open")

    def _do(self, what):
        self.calls.append(what)
        if what == self.at:
            raise Oddity

    def log(self, step, values):
        self._do("log")

    def close(self):
        self._do("close")


@pytest.mark.parametrize(("at", "calls"), [("log", "open log"), ("close", "open log log close")])
def test_whatever_a_package_raises_is_named_once_and_it_is_let_go(
    at, calls, tmp_path, monkeypatch, caplog
):
    made = Failing(at)
    monkeypatch.setitem(trackers.TRACKERS, "trackio", (lambda run: made, "json"))
    (tracker,) = open_trackers(["trackio"], run_of(tmp_path))
    for step, values in LOGGED.items():
        tracker.log(step, values)
    tracker.close()
    tracker.close()
    assert made.calls == calls.split()
    assert [record.message for record in caplog.records] == [
        "trackio takes no more of this run (Oddity); metrics.jsonl goes on"
    ]


def test_where_one_takes_no_run_those_before_it_are_closed(tmp_path, monkeypatch):
    before = Failing("never")
    monkeypatch.setitem(trackers.TRACKERS, "trackio", (lambda run: before, "json"))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", (lambda run: Failing("open"), "json"))
    with pytest.raises(ConfigError, match="wandb takes no run: Oddity"):
        open_trackers(["trackio", "wandb"], run_of(tmp_path))
    assert before.calls == ["open", "close"]


def test_an_mlflow_server_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    needs("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuch://place")
    with pytest.raises(ConfigError, match="nosuch://place") as caught:
        open_trackers(["mlflow"], run_of(tmp_path))
    assert "MLFLOW_TRACKING_URI" in str(caught.value.hint)


def test_trackio_keeps_the_run_in_its_own_folder(tmp_path, monkeypatch, capfd):
    needs("trackio")
    # trackio reads its folder on import, so a process of its own logs and reads.
    code = f"""
import json, sys
from pathlib import Path
from prefkit.training.trackers import TrackedRun, open_trackers
(tracker,) = open_trackers(["trackio"], TrackedRun(Path("."), {RUN!r}, "a run", {{"r": 16}}))
tracker.log(1, {{"train/loss": 0.6931}})
tracker.log(2, {{"train/loss": 0.25}})
tracker.close()
from trackio.sqlite_storage import SQLiteStorage
(name,) = SQLiteStorage.get_runs("prefkit")
logs = SQLiteStorage.get_logs("prefkit", name)
print(json.dumps([name, [[row["step"], row["train/loss"]] for row in logs]]))
"""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # The one line that was printed is all of stdout, at exit too.
    assert json.loads(done.stdout) == [f"a run-{RUN[:8]}", [[1, 0.6931], [2, 0.25]]]
    assert (tmp_path / "trackio").is_dir()


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_tracker_whose_package_is_missing_names_its_extra_and_opens_none(
    name, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as caught:
        open_trackers(["tensorboard", name], run_of(tmp_path))
    assert caught.value.hint == "pip install 'prefkit[trackers]'"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'wandb'"):
        check_trackers(["wandbb"])


def test_tensorboard_needs_no_package():
    assert TRACKERS["tensorboard"][1] is None
    code = "import sys\nfrom prefkit.training import trackers, monitor\n" + (
        "print(sorted({'tensorboard', 'wandb', 'mlflow', 'trackio', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_values_are_single_precision(tmp_path):
    with EventFile(tmp_path) as file:
        file.scalars(1, {"x": 1 / 3})
    assert scalars(tmp_path)["x"] == [(1, float(np.float32(1 / 3)))]


def test_a_value_beyond_single_precision_is_drawn_at_its_end(tmp_path):
    """kl_k3 is an exponential: 1e100 is finite, and no reason to end a run."""
    largest = float(np.finfo(np.float32).max)
    with EventFile(tmp_path) as file:
        file.scalars(1, {"x": 1e100})
        file.scalars(2, {"x": -1e100})
    assert scalars(tmp_path)["x"] == [(1, largest), (2, -largest)]
