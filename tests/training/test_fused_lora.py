"""LoRA in one operation gives peft's values and gradients, and leaves to peft what it cannot do."""

from contextlib import nullcontext

import pytest
import torch

from prefkit.policy.load import load_policy
from prefkit.policy.resolve import resolve_model
from prefkit.training.fused_lora import _LoraLinear, fuse_lora


@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_is_that_of_finite_differences(bias):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.requires_grad_()

    x, a, b = drawn(2, 3, 5), drawn(2, 5), drawn(4, 2)
    weight, offset = drawn(4, 5).detach(), drawn(4).detach() if bias else None
    torch.autograd.gradcheck(
        lambda x, a, b: _LoraLinear.apply(x, weight, offset, a, b, 1.7), (x, a, b)
    )


def wrapped(tiny_model_dir, dtype="float64", **changes):
    """A tiny model under LoRA whose B is not zero."""
    from peft import LoraConfig, get_peft_model

    policy = load_policy(resolve_model(str(tiny_model_dir)), dtype=dtype, device="cpu")
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"], **changes}
    torch.manual_seed(0)
    model = get_peft_model(
        policy.model,
        LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings),
        autocast_adapter_dtype=False,
    )
    return model.train()


def passed(model, *, adapter=True):
    """Logits, and the gradient of every trained parameter by name."""
    ids = torch.arange(3, 23).view(2, 10)
    with nullcontext() if adapter else model.disable_adapter():
        logits = model(input_ids=ids).logits
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(logits.square().sum(), list(trained.values()))
    return logits.detach(), dict(zip(trained, gradients, strict=True))


def test_values_and_gradients_are_those_of_peft(tiny_model_dir):
    model = wrapped(tiny_model_dir)
    logits, gradients = passed(model)
    assert fuse_lora(model) == 2 * model.config.num_hidden_layers
    fused_logits, fused = passed(model)
    assert not torch.equal(logits, torch.zeros_like(logits))
    torch.testing.assert_close(fused_logits, logits, rtol=1e-7, atol=1e-9)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        assert scale > 0
        torch.testing.assert_close(fused[name], gradient, rtol=1e-6, atol=1e-6 * scale)


def test_an_adapter_that_is_off_leaves_the_model_as_it_was_to_the_bit(tiny_model_dir):
    plain = load_policy(resolve_model(str(tiny_model_dir)), dtype="float64", device="cpu").model
    ids = torch.arange(3, 23).view(2, 10)
    model = wrapped(tiny_model_dir)
    fuse_lora(model)
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_an_adapter_that_is_merged_is_counted_once(tiny_model_dir):
    model = wrapped(tiny_model_dir)
    fuse_lora(model)
    logits, _ = passed(model)
    model.merge_adapter()
    ids = torch.arange(3, 23).view(2, 10)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, logits, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}], ids=str
)
def test_what_is_more_than_plain_lora_is_left_to_peft(tiny_model_dir, changes):
    assert fuse_lora(wrapped(tiny_model_dir, **changes)) == 0


def test_a_layer_with_two_adapters_is_left_to_peft(tiny_model_dir):
    from peft import LoraConfig

    model = wrapped(tiny_model_dir)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    assert fuse_lora(model) == model.config.num_hidden_layers
