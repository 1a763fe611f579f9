"""Images and audio: only those of pairs that were shown, only from their folder, only as such."""

from __future__ import annotations

import os

import pytest
from app_cases import team_of
from store_cases import pairs

from prefkit.annotation.media import LARGEST, read_medium, type_of
from prefkit.core.records import Comparison, Completion, Message, Part, Prompt
from prefkit.store import VoteStore

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt "


def picture_pair(*paths):
    prompt = Prompt.make([Message("user", tuple(Part("image", path=path) for path in paths))])
    answers = [
        Completion.make(prompt.id, [Message.of("assistant", text)], "m") for text in ("1", "2")
    ]
    return Comparison.make(prompt, *answers)


@pytest.fixture
def team(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "cat.png").write_bytes(PNG)
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add([picture_pair("cat.png", "../votes.db")])
        yield team_of(store, tmp_path)


def test_a_rater_who_was_shown_a_pair_gets_its_picture_and_nobody_else(team):
    kim, lee = team.client(team.add("kim")), team.client(team.add("lee"))
    task = kim.get("/api/v1/next").json()["pairs"][0]["task_id"]
    reply = kim.get(f"/api/v1/media/{task}/0")
    assert (reply.status_code, reply.content) == (200, PNG)
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["x-content-type-options"] == "nosniff"
    policy = reply.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox", "frame-ancestors 'none'"} <= set(policy)
    assert lee.get(f"/api/v1/media/{task}/0").status_code == 404
    assert team.client().get(f"/api/v1/media/{task}/0").status_code == 401


def test_a_lead_gets_the_pictures_of_a_pair_that_was_shown_to_nobody(team):
    (comparison,) = team.store.comparisons()
    address = f"/api/v1/media/{comparison.id}/0"
    reply = team.client(team.add("boss", "lead")).get(address)
    assert (reply.status_code, reply.content) == (200, PNG)
    assert "sandbox" in reply.headers["content-security-policy"]
    for role in ("rater", "reviewer"):
        assert team.client(team.add(role, role)).get(address).status_code == 404


def test_what_lies_elsewhere_or_is_not_there_is_404(team):
    kim = team.client(team.add("kim"))
    task = kim.get("/api/v1/next").json()["pairs"][0]["task_id"]
    for n in ("1", "2", "999"):
        assert kim.get(f"/api/v1/media/{task}/{n}").status_code == 404
    for wrong in (f"{task}/-1", f"{task}/x", f"{task}/1000", f"{'f' * 32}/0", f"{task}/..%2f"):
        reply = kim.get(f"/api/v1/media/{wrong}")
        assert 400 <= reply.status_code < 500
        assert "default-src 'none'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "link.png", "loop.png", "a\0b",
                                  "", ".", "missing.png", "x" * 5000])  # fmt: skip
def test_no_path_leads_out_of_the_folder(tmp_path, path):
    (tmp_path / "secret.png").write_bytes(PNG)
    folder = tmp_path / "media"
    folder.mkdir()
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    os.symlink(folder / "loop.png", folder / "loop.png")
    assert read_medium(folder, Part("image", path=path)) is None


def test_a_link_within_the_folder_and_an_absolute_path_into_it_are_followed(tmp_path):
    (tmp_path / "cat.png").write_bytes(PNG)
    os.symlink(tmp_path / "cat.png", tmp_path / "also.png")
    for path in ("also.png", str(tmp_path / "cat.png")):
        assert read_medium(tmp_path, Part("image", path=path)) == (PNG, "image/png")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("image", b"<!doctype html><script>alert(1)</script>"),
        ("image", WAV),
        ("audio", PNG),
        ("image", b""),
    ],
)
def test_a_file_that_is_not_what_its_part_says_is_not_sent(tmp_path, kind, body):
    (tmp_path / "x.png").write_bytes(body)
    assert read_medium(tmp_path, Part(kind, path="x.png")) is None


def test_a_file_that_is_too_large_is_not_sent(tmp_path):
    with (tmp_path / "x.png").open("wb") as handle:
        handle.write(PNG)
        handle.truncate(LARGEST + 1)
    assert read_medium(tmp_path, Part("image", path="x.png")) is None


def test_types_are_told_by_the_first_bytes():
    assert type_of(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    assert type_of(WAV) == "audio/wav"
    assert type_of(b"ID3\x04") == "audio/mpeg"
    assert type_of(b"RIFF") is None


def test_pairs_without_media_have_none(tmp_path):
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(pairs(1))
        team = team_of(store, tmp_path)
        kim = team.client(team.add("kim"))
        task = kim.get("/api/v1/next").json()["pairs"][0]["task_id"]
        assert kim.get(f"/api/v1/media/{task}/0").status_code == 404
