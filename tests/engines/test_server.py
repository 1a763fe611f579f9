"""The server engine over real HTTP."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import EngineError
from prefkit.engines.base import Sample, Unanswered
from prefkit.engines.journal import read_answers, writing
from prefkit.engines.server import (
    LONGEST_WAIT_SECONDS,
    ServerEngine,
    backoff_seconds,
    read_choice,
)
from prefkit.engines.settings import EngineSettings


def engine(server, **more):
    return ServerEngine(EngineSettings(backend="server", server_url=server.url, **more))


def answers(engine, requests):
    return dict(engine.sample(requests))


def test_every_sample_is_asked_with_its_own_seed(chat_server, make_requests):
    (request,) = make_requests(1, n=3)
    found = answers(engine(chat_server), [request])
    seeds = request.sample_seeds()
    assert found == {0: [Sample(f"question 0 answered with {s}", "stop", None) for s in seeds]}


def test_the_first_listed_model_is_taken_unless_one_is_named(chat_server):
    assert engine(chat_server).model == "small"
    assert engine(chat_server, server_model="big").model == "big"


def test_a_busy_server_is_asked_again(chat_server, make_requests):
    chat_server.failures["question 1"] = [503, 429]
    found = answers(engine(chat_server), make_requests(3, n=1))
    assert all(isinstance(found[i], list) for i in range(3))
    assert sorted(chat_server.asked.values()) == [1, 1, 3]


def test_a_refused_request_is_counted_with_its_reason_and_not_asked_again(
    chat_server, make_requests
):
    chat_server.failures["question 0"] = [400]
    found = answers(engine(chat_server), make_requests(2, n=1))
    assert found[0] == Unanswered("HTTP 400")
    assert isinstance(found[1], list)
    assert sum(chat_server.asked.values()) == 2


def test_a_server_that_stays_busy_gives_up_after_the_retries(chat_server, make_requests):
    chat_server.failures["question 0"] = [503] * 9
    found = answers(engine(chat_server, server_retries=1), make_requests(1, n=1))
    assert found[0] == Unanswered("HTTP 503 after 2 tries")


def test_a_missing_key_names_the_environment_variable(chat_server, make_requests):
    chat_server.failures["question 0"] = [401]
    with pytest.raises(EngineError, match="401") as caught:
        answers(engine(chat_server, api_key_env="MY_KEY"), make_requests(1, n=1))
    assert "MY_KEY" in caught.value.hint


def test_the_key_is_sent_as_a_bearer_token(chat_server, make_requests, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    answers(engine(chat_server, api_key_env="MY_KEY"), make_requests(1, n=1))
    assert chat_server.keys == {"Bearer secret"}


def test_no_server_is_one_clear_line():
    with pytest.raises(EngineError, match="does not answer"):
        ServerEngine(EngineSettings(backend="server", server_url="http://127.0.0.1:9/v1"))


@given(st.integers(1, 60), st.integers(0, 1000))
def test_backoff_is_positive_and_bounded(attempt, seed):
    assert 0 < backoff_seconds(attempt, random.Random(seed)) <= LONGEST_WAIT_SECONDS


def test_half_a_surrogate_pair_does_not_stop_the_journal(tmp_path):
    reply = json.loads(r'{"choices": [{"message": {"content": "a \ud83d b"}, "finish_reason": 3}]}')
    with writing(tmp_path) as writer:
        writer.add("key", [read_choice(reply)])
    assert read_answers(tmp_path) == {"key": [Sample("a ? b", None, None)]}
