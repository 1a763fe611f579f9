"""The transformers engine on the tiny model: its words and numbers are the policy's own."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from tree_cases import make_tree  # noqa: E402

from prefkit.core.records import Message  # noqa: E402
from prefkit.engines import EngineSettings, source_for  # noqa: E402
from prefkit.engines.decoding import Continuation  # noqa: E402
from prefkit.engines.transformers import TransformersEngine  # noqa: E402
from prefkit.policy.load import load_policy  # noqa: E402
from prefkit.policy.logps import tree_logps  # noqa: E402
from prefkit.policy.packing import Layout  # noqa: E402
from prefkit.policy.template import encode_prompt  # noqa: E402

SETTINGS = EngineSettings(backend="transformers", dtype="float32", batch_size=4)


@pytest.fixture(scope="module")
def source(tiny_model_dir):
    return source_for(str(tiny_model_dir), SETTINGS)


@pytest.fixture(scope="module")
def adapter(source, tmp_path_factory):
    """A random adapter large enough to matter."""
    model = load_policy(source, dtype="float32").model
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    folder = tmp_path_factory.mktemp("adapter")
    wrapped.save_pretrained(folder)
    return folder


def greedy(source, adapter, requests):
    return dict(TransformersEngine(source, adapter, SETTINGS).sample(requests))


@pytest.mark.parametrize("adapted", [False, True])
def test_the_engine_samples_from_the_policy_that_load_policy_gives(
    source, adapter, make_requests, adapted
):
    """Token by token, so that no text has to be tokenised again."""
    chosen = adapter if adapted else None
    engine = TransformersEngine(source, chosen, SETTINGS)
    policy = load_policy(source, adapter=chosen, dtype="float32")
    asked = [tuple(encode_prompt(policy.tokenizer, r.prompt)) for r in make_requests(6)]
    work = [Continuation(i, ids, (i,), 1.0, 1.0, 10) for i, ids in enumerate(asked)]
    written = list(engine.decoder.run(work))
    trees = [make_tree(asked[r.index], r.tokens) for r in written]
    with torch.inference_mode():
        expected = tree_logps(policy.model, trees, layout=Layout("tree", "sdpa", "")).sums()
    ours = torch.tensor([row.logprob for row in written])
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-4)


def test_an_adapter_changes_the_answers(source, adapter, make_requests):
    requests = make_requests(6, n=1, temperature=0.0)
    plain, tuned = greedy(source, None, requests), greedy(source, adapter, requests)
    assert any(plain[i][0].text != tuned[i][0].text for i in range(6))


def test_special_tokens_never_reach_the_text(source, make_requests):
    found = greedy(source, None, make_requests(12, n=3, temperature=1.5, max_tokens=40))
    texts = [sample.text for samples in found.values() for sample in samples]
    assert len(texts) == 36
    assert not any("<|" in text for text in texts)


def test_answers_end_at_their_own_limit(source, make_requests):
    short = make_requests(2, n=1, temperature=1.0, max_tokens=1)
    found = greedy(source, None, short)
    assert {len(found[i]) for i in range(2)} == {1}


def test_a_system_turn_is_part_of_what_is_asked(source, make_requests):
    from dataclasses import replace

    from prefkit.core.records import Prompt

    (request,) = make_requests(1, n=1, temperature=0.0)
    system = Prompt.make([Message.of("system", "Answer as a fox."), *request.prompt.messages])
    with_system = replace(request, prompt=system)
    found = greedy(source, None, [request, with_system])
    assert found[0] != found[1]


def test_the_head_of_a_prefill_copies_no_weights(source, adapter, make_requests):
    """Frozen weights times a slice of positions are copied once a prompt: seconds and gigabytes."""
    engine = TransformersEngine(source, adapter, SETTINGS)
    with torch.profiler.profile(record_shapes=True) as profile:
        list(engine.sample(make_requests(4)))
    vocabulary = engine.decoder.model.config.vocab_size
    of_the_head = [
        (event.name, event.input_shapes[0][0])
        for event in profile.events()
        if event.name in ("aten::mm", "aten::bmm") and vocabulary in event.input_shapes[1]
    ]
    # One product of one matrix is no copy: the shared prefix is a batch of one.
    assert not [n for name, n in of_the_head if name == "aten::bmm" and n > 1]
    assert "aten::mm" in dict(of_the_head)
