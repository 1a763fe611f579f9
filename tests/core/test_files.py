"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from prefkit.core.errors import DataError, EnvironmentFault
from prefkit.core.files import (
    clear_leftovers,
    file_digest,
    read_json,
    replacing,
    write_json,
    write_text,
)

KILLED = """
import sys, time
from pathlib import Path
from prefkit.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail_half_way():
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_the_old_file_and_a_leftover_that_is_cleared(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_what_another_process_is_writing_is_not_cleared(tmp_path):
    path = tmp_path / "x.txt"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    (tmp_path / "notes.tmp-old").write_text("not ours")
    clear_leftovers(tmp_path)
    left = {p.name for p in tmp_path.iterdir()}
    child.kill()
    child.wait()
    child.stdout.close()
    assert left == {f"x.txt.tmp-{child.pid}", "notes.tmp-old"}


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(EnvironmentFault, match=r"x\.txt: the disk is full"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_the_system_says_no_space_with_the_number_we_look_for():
    with pytest.raises(OSError) as caught, open("/dev/full", "w") as handle:
        handle.write("x" * 100_000)
    assert caught.value.errno == errno.ENOSPC


def test_json_refuses_nan_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back_as_it_was_and_damage_names_the_line(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"ä": [1, None]})
    assert read_json(path) == {"ä": [1, None]}
    path.write_text('{\n "a": 1,\n "b" 2}')
    with pytest.raises(DataError, match=r"x\.json:3: not JSON"):
        read_json(path)
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_a_folder_digest_sees_names_and_bytes_but_not_times(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text("1")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")
    os.utime(tmp_path / "b" / "one.txt", (time.time() - 100,) * 2)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")
    (tmp_path / "b" / "one.txt").rename(tmp_path / "b" / "two.txt")
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")
