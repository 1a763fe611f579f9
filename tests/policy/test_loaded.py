"""A model in memory is known by its weights."""

import pytest
import torch

from prefkit.core.errors import ModelError
from prefkit.policy.load import load_policy
from prefkit.policy.loaded import loaded_policy


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equal_weights_have_one_digest_and_a_changed_one_another(tiny_model_dir, dtype):
    one, two = (load_policy(str(tiny_model_dir), dtype=dtype, device="cpu") for _ in range(2))
    first = loaded_policy(one.model, one.tokenizer).digest
    assert loaded_policy(two.model, two.tokenizer).digest == first
    with torch.no_grad():
        next(two.model.parameters()).view(-1)[3] += 0.5
    assert loaded_policy(two.model, two.tokenizer).digest != first


def test_a_peft_model_is_refused_with_the_way_to_give_it(tiny_model_dir):
    import peft

    policy = load_policy(str(tiny_model_dir), dtype="float32", device="cpu")
    wrapped = peft.get_peft_model(policy.model, peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ModelError, match="wrapped by peft") as caught:
        loaded_policy(wrapped, policy.tokenizer)
    assert "start_adapter" in (caught.value.hint or "")
