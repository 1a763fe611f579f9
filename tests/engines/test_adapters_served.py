"""Which adapters an engine serves: virtual tokens as peft does, the rest refused with the mend."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from adapters import HEAD, trained_folder  # noqa: E402

from prefkit.core.errors import EngineError  # noqa: E402
from prefkit.engines import EngineSettings, source_for  # noqa: E402
from prefkit.engines.decoding import Continuation  # noqa: E402
from prefkit.engines.transformers import TransformersEngine  # noqa: E402
from prefkit.engines.vllm import check_servable  # noqa: E402
from prefkit.policy.load import load_policy  # noqa: E402
from prefkit.policy.template import encode_prompt  # noqa: E402
from prefkit.training.adapter_settings import LoraSettings  # noqa: E402

SETTINGS = EngineSettings(backend="transformers", dtype="float32", batch_size=4)
N = 8


@pytest.mark.parametrize("name", ["prefix", "prompt"])
@pytest.mark.parametrize("n_prompts", [1, 6])
def test_the_transformers_engine_writes_what_peft_generates(
    name, n_prompts, tiny_model_dir, tmp_path, make_requests
):
    """Alone and in a batch that shares the template's beginning behind the virtual tokens."""
    adapter, _ = trained_folder(tiny_model_dir, name, tmp_path)
    source = source_for(str(tiny_model_dir), SETTINGS)
    engine = TransformersEngine(source, adapter, SETTINGS)
    policy = load_policy(source, adapter=adapter, dtype="float32", device="cpu")
    asked = [tuple(encode_prompt(policy.tokenizer, r.prompt)) for r in make_requests(n_prompts)]
    work = [Continuation(i, ids, (0,), 0.0, 1.0, N) for i, ids in enumerate(asked)]
    for row in engine.decoder.run(work):
        ids = torch.tensor([asked[row.index]])
        text = policy.model.generate(input_ids=ids, do_sample=False, max_new_tokens=N)[0]
        # peft gives back the prompt as well for a prefix.
        assert text.tolist()[-len(row.tokens) :] == row.tokens
    assert engine.max_length == policy.model.config.max_position_embeddings - 5


def test_vllm_takes_plain_lora(tiny_model_dir, tmp_path):
    check_servable(trained_folder(tiny_model_dir, "lora", tmp_path)[0])


@pytest.mark.parametrize(
    ("name", "words", "mend"),
    [
        ("prefix", "virtual tokens .prefix tuning", "--backend transformers"),
        ("prompt", "virtual tokens .prompt tuning", "--backend transformers"),
        ("dora", "does not serve DoRA", "prefkit merge"),
        ("ia3", "does not serve adapters of method ia3", "prefkit merge"),
    ],
)
def test_vllm_refuses_what_it_would_serve_wrongly(name, words, mend, tiny_model_dir, tmp_path):
    adapter, _ = trained_folder(tiny_model_dir, name, tmp_path)
    with pytest.raises(EngineError, match=words) as caught:
        check_servable(adapter)
    assert mend in (caught.value.hint or "")


def test_vllm_refuses_an_adapter_of_the_head(tiny_model_dir, tmp_path):
    lora = LoraSettings(r=4, targets=HEAD)
    adapter, _ = trained_folder(tiny_model_dir, "lora", tmp_path, lora=lora)
    with pytest.raises(EngineError, match="of the head") as caught:
        check_servable(adapter)
    assert "prefkit merge" in (caught.value.hint or "")
