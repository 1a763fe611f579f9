"""The rater ``reward``: a reward model's σ(r_a − r_b) as votes."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys

import pytest
import torch
from planted_pairs import make_pair
from reward_models import naive_rewards, trees_of
from transformers import AutoModelForSequenceClassification

from prefkit.aggregation import aggregate
from prefkit.core.errors import ModelError
from prefkit.core.records import Comparison, Completion, Message, Part, Prompt, Vote
from prefkit.formats.tables import read_records, write_records
from prefkit.judging import JudgeSettings, judge
from prefkit.judging.reward_rater import NOT_FINITE, TOO_LONG, UNREADABLE, reward_vote
from prefkit.judging.votes import machine_name
from prefkit.policy.template import Exchange
from prefkit.store import VoteStore
from prefkit.training import TrainSettings, train


def comparison(prompt: Prompt, one: str, other: str) -> Comparison:
    answers = (
        Completion.make(prompt.id, [Message.of("assistant", text)], "model")
        for text in (one, other)
    )
    return Comparison.make(prompt, *answers)


def asked(n: int, seed: int) -> tuple[list[Comparison], list[str]]:
    """``n`` comparisons under the planted rule, and the slot in which the better answer stands."""
    draw = random.Random(seed)
    made: list[Comparison] = []
    slots: list[str] = []
    for _ in range(n):
        pair = make_pair(draw)
        made.append(comparison(pair.prompt, pair.chosen[0].text, pair.rejected[0].text))
        slots.append("a" if made[-1].a.text.endswith("?") else "b")
    return made, slots


@pytest.fixture(scope="module")
def trained(tiny_model_dir, tmp_path_factory):
    """The folders of an adapter and of a whole model, both trained on the planted rule."""
    draw = random.Random(1)
    rows = [make_pair(draw) for _ in range(48)]
    folders = {}
    for method in ("lora", "full"):
        settings = TrainSettings(
            loss="bradley_terry",
            method=method,
            dtype="float32",
            device="cpu",
            learning_rate=5e-3,
            epochs=4,
            trackers=[],
        )
        out = tmp_path_factory.mktemp(method)
        folders[method] = train(str(tiny_model_dir), rows, settings, out=out / "run").folder
    return folders


def reward_settings(model: object, adapter: object = None) -> JudgeSettings:
    return JudgeSettings.model_validate(
        {
            "rater": "reward",
            "model": str(model),
            "adapter": None if adapter is None else str(adapter),
            "engine": {"dtype": "float32", "device": "cpu"},
        }
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_votes_as_it_was_trained(method, trained, tiny_model_dir):
    made, slots = asked(40, 2)
    settings = (
        reward_settings(tiny_model_dir, trained["lora"])
        if method == "lora"
        else reward_settings(trained["full"])
    )
    judged = judge(made, settings)
    assert judged.failed == {}
    assert {vote.rater_kind for vote in judged.votes} == {"reward"}
    right = [vote.choice == slot for vote, slot in zip(judged.votes, slots, strict=True)]
    assert sum(right) > 0.95 * len(right)


def test_p_a_is_the_sigmoid_of_the_difference_of_transformers_rewards(trained):
    made, _ = asked(12, 3)
    votes = judge(made, reward_settings(trained["full"])).votes
    model = AutoModelForSequenceClassification.from_pretrained(trained["full"]).eval()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained["full"])
    given = [Exchange(c.prompt, (c.a.messages, c.b.messages)) for c in made]
    with torch.no_grad():
        rewards = naive_rewards(model, trees_of(tokenizer, given)).view(-1, 2)
    wanted = (rewards[:, 0] - rewards[:, 1]).sigmoid().tolist()
    assert [vote.p_a for vote in votes] == pytest.approx(wanted, abs=1e-5)


def test_answers_that_many_comparisons_share_are_scored_once(trained, tiny_model_dir):
    """Six comparisons of four answers: transitive, since each answer has one reward."""
    prompt = Prompt.make([Message.of("user", "fox dog sea")])
    texts = ["sun moon?", "sun moon.", "quick lazy brown?", "dog."]
    made = [comparison(prompt, x, y) for i, x in enumerate(texts) for y in texts[i + 1 :]]
    seen: list[int | None] = []

    def progress(what: str, done: int, total: int | None = None, note: str = "", /) -> None:
        if what == "scoring answers":
            seen.append(total)

    judged = judge(made, reward_settings(tiny_model_dir, trained["lora"]), progress=progress)
    assert seen[-1] == 1
    rewards: dict[str, set[str]] = {}
    for vote, c in zip(judged.votes, made, strict=True):
        rewards.setdefault(c.a.id, set()).add(vote.aspects["reward_a"])
        rewards.setdefault(c.b.id, set()).add(vote.aspects["reward_b"])
    assert [len(found) for found in rewards.values()] == [1, 1, 1, 1]
    alone = [judge([c], reward_settings(tiny_model_dir, trained["lora"])).votes[0] for c in made]
    assert [v.p_a for v in alone] == pytest.approx([v.p_a for v in judged.votes], abs=1e-6)


def test_what_it_cannot_read_gets_no_vote_and_is_counted(trained, tiny_model_dir):
    prompt = Prompt.make([Message.of("user", "fox")])
    picture = Prompt.make([Message("user", (Part("image", path="fox.png"),))])
    made = [
        comparison(prompt, "sun?", "sun."),
        comparison(prompt, "moon?", "long " * 600),
        comparison(picture, "sun?", "sun."),
    ]
    judged = judge(made, reward_settings(tiny_model_dir, trained["lora"]))
    assert [vote.comparison_id for vote in judged.votes] == [made[0].id]
    assert judged.failed == {TOO_LONG: 1, UNREADABLE: 1}


def test_a_reward_that_is_not_finite_is_no_vote(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    folder.mkdir()
    for path in trained["full"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][:] = math.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    made, _ = asked(3, 4)
    judged = judge(made, reward_settings(folder))
    assert (judged.votes, judged.failed) == ([], {NOT_FINITE: 3})


@pytest.mark.parametrize(
    ("a", "b", "choice", "strength"),
    [(1.0, 1.0, "tie", 0), (0.2, 0.0, "a", 1), (0.0, 1.0, "b", 2), (9.0, -9.0, "a", 3)],
)
def test_the_vote_of_two_rewards(a, b, choice, strength):
    made, _ = asked(1, 5)
    vote = reward_vote(made[0], "reward:rm", a, b, identity={})
    assert (vote.choice, vote.strength) == (choice, strength)
    assert vote.p_a == pytest.approx(1 / (1 + math.exp(b - a)))
    swapped = reward_vote(made[0], "reward:rm", b, a, identity={})
    assert swapped.p_a == pytest.approx(1 - (vote.p_a or 0.0))


def test_the_store_takes_the_votes_once_and_a_retrained_model_replaces_them(
    trained, tiny_model_dir, tmp_path
):
    made, _ = asked(5, 6)
    one = judge(made, reward_settings(tiny_model_dir, trained["lora"])).votes
    same = judge(made, reward_settings(tiny_model_dir, trained["lora"])).votes
    other = judge(made, reward_settings(trained["full"])).votes
    assert [v.id for v in one] == [v.id for v in same]
    assert not {v.id for v in one} & {v.id for v in other}
    with VoteStore.open(tmp_path / "votes.db") as store:
        store.add(made)
        assert [store.add_votes(votes) for votes in (one, same, other)] == [5, 0, 5]
        stored = {vote.id: vote for vote in store.votes()}
    assert stored[one[0].id].p_a == one[0].p_a
    assert stored[one[0].id].rater == machine_name("reward", str(trained["lora"]))
    beliefs = {p.comparison_id: p.p_a for p in aggregate(made, one)}
    for vote in one:
        assert (beliefs[vote.comparison_id] > 0.5) is (vote.choice == "a")


def test_a_rater_is_named_by_its_model_and_no_path_of_this_machine(tmp_path, monkeypatch):
    """However its place is written; a namesake elsewhere is another rater."""
    for name in ("ann/adapter", "bob/adapter", "ann/smollm2"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "ann")
    monkeypatch.setenv("HOME", str(tmp_path))
    absolute, home = str(tmp_path / "ann" / "adapter"), "~/ann/adapter"
    named = {machine_name("reward", path) for path in ("adapter", "./adapter", absolute, home)}
    assert len(named) == 1
    assert re.fullmatch(r"reward:adapter-[0-9a-f]{8}", named.pop())
    elsewhere = machine_name("reward", str(tmp_path / "bob" / "adapter"))
    assert elsewhere != machine_name("reward", absolute)
    assert machine_name("llm", "/models/big").startswith("llm:big-")  # as a server may call it
    assert machine_name("llm", "org/model@main") == "llm:org/model@main"
    assert machine_name("llm", "smollm2") == "llm:smollm2"


def test_a_language_model_is_no_judge_of_this_kind(tiny_model_dir):
    with pytest.raises(ModelError, match="a language model, not a reward model") as fault:
        judge(asked(1, 7)[0], reward_settings(tiny_model_dir))
    assert "bradley_terry" in (fault.value.hint or "")


def test_on_the_command_line_model_and_adapter_name_it(trained, tiny_model_dir, tmp_path):
    made, slots = asked(6, 8)
    path = tmp_path / "comparisons.parquet"
    write_records(path, made, Comparison)
    command = [sys.executable, "-m", "prefkit", "judge", path, "--rater", "reward", "--model"]
    command += [tiny_model_dir, "--adapter", trained["lora"], "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    votes = read_records(tmp_path / "comparisons.votes.parquet", Vote)
    assert [vote.choice for vote in votes] == slots
    assert value["choices"] == {s: slots.count(s) for s in set(slots)}
