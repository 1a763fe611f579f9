"""Jobs in a real child process: order, resume, kills at bad moments, faults in words."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prefkit.core.errors import ConfigError, EngineError, ModelError
from prefkit.engines import EngineSettings, sample, source_for, worker_facts
from prefkit.engines.faults import engine_error
from prefkit.engines.job import LOG
from prefkit.engines.journal import ANSWERS, read_answers

SCRIPTED = EngineSettings(backend="scripted")

# What a killed parent runs: the same call as the test's own.
PARENT = """
import signal, sys
# A suite started in the background is born with interrupts ignored, and so are its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from prefkit.core.records import Message, Prompt, Sampling
from prefkit.engines import EngineSettings, Request, sample, source_for
url, journal, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
settings = EngineSettings(backend="server", server_url=url, server_concurrency=4)
requests = [
    Request(Prompt.make([Message.of("user", f"question {i}")]), 2, Sampling(1.0, 1.0, 8), 5)
    for i in range(count)
]
try:
    sample(requests, source=source_for("", settings), adapter=None, settings=settings,
           journal=journal, progress=lambda what, done, total=None: print(done, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""


def scripted(requests, journal, settings=SCRIPTED, progress=None):
    source = source_for("unused", settings)
    options = {"progress": progress} if progress else {}
    return sample(
        requests, source=source, adapter=None, settings=settings, journal=journal, **options
    )


def over_http(requests, journal, server, **more):
    settings = EngineSettings(backend="server", server_url=server.url, server_concurrency=4, **more)
    return sample(
        requests,
        source=source_for("", settings),
        adapter=None,
        settings=settings,
        journal=journal,
    )


def worker_of(parent: int) -> psutil.Process:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in psutil.Process(parent).children():
            if "prefkit.engines.worker" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("no worker was started")


def wait_for_chunk(journal: Path) -> None:
    deadline = time.monotonic() + 30
    while not list(journal.glob("chunk-*.parquet")):
        assert time.monotonic() < deadline, "no chunk was written"
        time.sleep(0.05)


def assert_gone(process: psutil.Process) -> None:
    _, alive = psutil.wait_procs([process], timeout=10)
    assert not alive


@pytest.fixture
def parent(chat_server, tmp_path):
    """A running parent whose worker has journalled some of 60 slow requests, not all."""
    chat_server.seconds = 0.12
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, chat_server.url, str(tmp_path / "j"), "60"],
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_chunk(tmp_path / "j")
    yield process
    process.kill()
    process.communicate()


def assert_whole(completions, requests, journal: Path) -> None:
    expected = [(r.prompt.id, i) for r in requests for i in range(r.n)]
    assert [(c.prompt_id, c.sample_index) for c in completions] == expected
    assert len({c.id for c in completions}) == len(completions)
    import pyarrow.parquet as pq

    chunks = [pq.read_table(p, schema=ANSWERS) for p in journal.glob("chunk-*.parquet")]
    keys = [key for chunk in chunks for key in chunk["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == len(requests)


def test_completions_come_in_request_order_n_each(tmp_path, make_requests):
    requests = make_requests(7, n=3)
    completions = scripted(requests, tmp_path)
    assert_whole(completions, requests, tmp_path)
    facts = worker_facts(tmp_path)
    assert facts["n_answers"] == 21
    assert facts["backend"] == "scripted"
    assert 0 < facts["peak_gib"] < 8


def test_a_second_call_starts_no_worker_and_gives_the_same(tmp_path, make_requests):
    requests = make_requests(3)
    first = scripted(requests, tmp_path)
    before = (tmp_path / LOG).stat().st_mtime_ns
    events: list[str] = []
    assert scripted(requests, tmp_path, progress=lambda *a: events.append("p")) == first
    assert events == []
    assert (tmp_path / LOG).stat().st_mtime_ns == before


def test_only_new_requests_are_sampled(tmp_path, make_requests, chat_server):
    over_http(make_requests(4), tmp_path, chat_server)
    both = make_requests(6)
    assert_whole(over_http(both, tmp_path, chat_server), both, tmp_path)
    assert set(chat_server.asked.values()) == {1}


def test_a_repeated_request_is_sampled_once_and_returned_twice(
    tmp_path, make_requests, chat_server
):
    (request,) = make_requests(1)
    completions = over_http([request, request], tmp_path, chat_server)
    assert completions[:2] == completions[2:]
    assert set(chat_server.asked.values()) == {1}


def test_the_same_seed_gives_the_same_text_and_another_seed_another(tmp_path, make_requests):
    from dataclasses import replace

    requests = make_requests(12)
    one = scripted(requests, tmp_path / "a")
    assert [c.text for c in scripted(requests, tmp_path / "b")] == [c.text for c in one]
    reseeded = scripted([replace(r, seed=6) for r in requests], tmp_path / "b")
    assert [c.text for c in reseeded] != [c.text for c in one]


def test_kill_9_of_the_parent_ends_the_worker_and_loses_no_journalled_answer(
    parent, chat_server, tmp_path, make_requests
):
    worker = worker_of(parent.pid)
    parent.send_signal(signal.SIGKILL)
    assert_gone(worker)
    standing = set(read_answers(tmp_path / "j"))
    assert 0 < len(standing) < 60
    chat_server.seconds = 0.0
    chat_server.asked.clear()
    requests = make_requests(60)
    assert_whole(over_http(requests, tmp_path / "j", chat_server), requests, tmp_path / "j")
    assert sum(chat_server.asked.values()) == 2 * (60 - len(standing))


def test_kill_9_of_the_worker_is_an_engine_error_and_the_next_call_goes_on(
    parent, chat_server, tmp_path, make_requests
):
    worker_of(parent.pid).send_signal(signal.SIGKILL)
    assert parent.wait(20) == 1
    chat_server.seconds = 0.0
    requests = make_requests(60)
    assert_whole(over_http(requests, tmp_path / "j", chat_server), requests, tmp_path / "j")


def test_ctrl_c_ends_the_worker_and_keeps_what_was_done(parent, tmp_path):
    worker = worker_of(parent.pid)
    chunk = set(read_answers(tmp_path / "j"))
    time.sleep(0.8)  # less than a chunk's time: what is done now is in memory only
    parent.send_signal(signal.SIGINT)
    assert parent.wait(20) == 130
    assert_gone(worker)
    assert set(read_answers(tmp_path / "j")) > chunk


def test_leftovers_of_a_kill_are_ignored_and_removed(tmp_path, make_requests):
    leftover = tmp_path / "chunk-000001.parquet.tmp-99999999"
    leftover.write_bytes(b"half")
    assert len(scripted(make_requests(2), tmp_path)) == 4
    assert not leftover.exists()


def test_a_model_that_does_not_load_is_a_model_error(tmp_path, tiny_model_dir, make_requests):
    import shutil

    broken = shutil.copytree(tiny_model_dir, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    settings = EngineSettings(backend="transformers")
    with pytest.raises(ModelError, match="broken"):
        sample(
            make_requests(1),
            source=source_for(str(broken), settings),
            adapter=None,
            settings=settings,
            journal=tmp_path / "j",
        )


def test_a_bad_script_is_a_config_error_that_names_the_fields(tmp_path, make_requests):
    settings = EngineSettings(backend="scripted", script="{opening} {nonsense}")
    with pytest.raises(ConfigError, match="nonsense") as caught:
        scripted(make_requests(1), tmp_path, settings)
    assert "{topic}" in caught.value.hint


def test_an_adapter_for_a_server_is_refused_with_the_way_to_do_it(tmp_path, make_requests):
    settings = EngineSettings(backend="server", server_url="http://127.0.0.1:9/v1")
    with pytest.raises(EngineError, match="adapter") as caught:
        sample(
            make_requests(1),
            source=source_for("", settings),
            adapter=tmp_path,
            settings=settings,
            journal=tmp_path,
        )
    assert "server_model" in caught.value.hint


@pytest.mark.parametrize(
    ("log", "returncode", "mend"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", 1, "engine.batch_size"),
        ("ValueError: Free memory on device cpu (3.1/23.5 GiB) is less", 1, "lower engine.gpu_m"),
        ("ValueError: No available memory for the cache blocks.", 1, "raise engine.cpu_kv_gib"),
        ("OSError: [Errno 28] No space left on device", 1, "free some space"),
        ("", -9, "run out of memory"),
        ("something new", 3, "the whole log"),
    ],
)
def test_the_last_words_of_a_worker_become_a_mend(tmp_path, log, returncode, mend):
    path = tmp_path / LOG
    path.write_text("started\n" + log + "\n")
    error = engine_error("vllm", returncode, path)
    assert mend in (error.hint or "")
    assert log in error.message


def test_importing_the_engines_loads_no_heavy_package():
    code = (
        "import sys, prefkit.engines, prefkit.generation, prefkit.cli.generate;"
        "print([m for m in ('torch','transformers','vllm','gradio') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout.replace("'", '"')) == []


def test_a_transformers_job_writes_from_the_tiny_model(tmp_path, tiny_model_dir, make_requests):
    settings = EngineSettings(backend="transformers", dtype="float32", batch_size=3)
    source = source_for(str(tiny_model_dir), settings)
    requests = make_requests(5, n=2)
    completions = sample(
        requests, source=source, adapter=None, settings=settings, journal=tmp_path / "j"
    )
    assert_whole(completions, requests, tmp_path / "j")
    assert {c.model for c in completions} == {source.digest}
    assert all(c.logprob < 0 and c.finish_reason in ("stop", "length") for c in completions)


def test_a_prompt_too_long_for_the_model_is_counted_and_the_others_answered(
    tmp_path, tiny_model_dir, make_requests
):
    from dataclasses import replace

    from prefkit.core.records import Message, Prompt

    settings = EngineSettings(backend="transformers", dtype="float32")
    requests = make_requests(2, n=1)
    requests[0] = replace(requests[0], prompt=Prompt.make([Message.of("user", "sea " * 600)]))
    completions = sample(
        requests,
        source=source_for(str(tiny_model_dir), settings),
        adapter=None,
        settings=settings,
        journal=tmp_path / "j",
    )
    assert [c.prompt_id for c in completions] == [requests[1].prompt.id]
    assert worker_facts(tmp_path / "j")["unanswered"] == {"prompt too long for the model": 1}
