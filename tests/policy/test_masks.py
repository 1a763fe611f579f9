"""The tree mask: dense against its definition, blocks against dense, FlexAttention against both."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from tree_cases import naive_logps, random_trees, trees

from prefkit.policy.layout import choose_layout
from prefkit.policy.logps import tree_logps
from prefkit.policy.masks import block_mask, dense_mask
from prefkit.policy.packing import Layout, pack_shared

BLOCK = 16
FLEX = Layout("tree", "flex", "")


def tensors(packed):
    return torch.from_numpy(packed.tree[0]), torch.from_numpy(packed.branch[0])


@given(some=trees, n_virtual=st.integers(0, 3))
def test_a_token_sees_its_prompt_its_branch_and_virtual_tokens_up_to_itself(some, n_virtual):
    """Against walking the trees: who precedes whom on one path from root to leaf."""
    packed = pack_shared(some, whole=True)
    found = dense_mask(*tensors(packed), n_virtual, None)[0, 0].numpy()
    wanted = np.zeros_like(found)
    wanted[:, :n_virtual] = True
    at = 0
    for tree in some:
        prompt = list(range(at, at := at + len(tree.prompt)))
        for path in [prompt, *_paths(tree, prompt, at)]:
            for i, query in enumerate(path):
                wanted[query, [n_virtual + key for key in path[: i + 1]]] = True
        at += sum(len(branch.ids) for branch in tree.branches)
    assert np.array_equal(found, wanted)


def _paths(tree, prompt, at):
    for branch in tree.branches:
        yield [*prompt, *range(at, at := at + len(branch.ids))]


@given(some=trees)
def test_positions_go_on_from_the_prompt_in_every_branch(some):
    packed = pack_shared(some, whole=True)
    wanted: list[int] = []
    for tree in some:
        wanted += range(len(tree.prompt))
        for branch in tree.branches:
            wanted += range(len(tree.prompt), len(tree.prompt) + len(branch.ids))
    assert packed.positions[0].tolist() == wanted


@given(some=trees, n_virtual=st.sampled_from([0, 1, BLOCK, BLOCK + 3]))
def test_blocks_are_those_that_torch_finds_by_looking_at_every_pair(some, n_virtual):
    packed = pack_shared(some, whole=True, multiple=BLOCK)
    length = packed.ids.shape[1]
    tree, branch = tensors(packed)
    mine = block_mask(packed, tree, branch, n_virtual, BLOCK)
    assert torch.equal(
        mine.to_dense(), _torch_blocks(mine.mask_mod, length, n_virtual + length).to_dense()
    )
    looked_up = _torch_blocks(mine.mask_mod, length, n_virtual + length)
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(mine, name), getattr(looked_up, name)), name
    dense = dense_mask(tree, branch, n_virtual, None)[0, 0]
    query, key = torch.arange(length)[:, None], torch.arange(n_virtual + length)[None, :]
    none = torch.zeros((), dtype=torch.long)
    assert torch.equal(mine.mask_mod(none, none, query, key), dense)


def _torch_blocks(mask_mod, queries, keys):
    return create_block_mask(
        mask_mod, B=None, H=None, Q_LEN=queries, KV_LEN=keys, device="cpu", BLOCK_SIZE=BLOCK
    )


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@given(some=trees)
def test_flex_attention_under_the_block_mask_is_attention_under_the_dense_one(some):
    packed = pack_shared(some, whole=True, multiple=BLOCK)
    tree, branch = tensors(packed)
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, packed.ids.shape[1], 8, generator=draw, dtype=torch.float64)
    found = flex_attention(q, k, v, block_mask=block_mask(packed, tree, branch, 0, BLOCK))
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=dense_mask(tree, branch, 0, None)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def tiny_flex(device: str):
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.LlamaForCausalLM(config)
    return model.to(device)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_model_under_flex_attention_gives_the_naive_values(monkeypatch):
    """The kernel runs uncompiled: compiling it for a CPU takes minutes and gives no gradient."""
    model, some = tiny_flex("cpu").eval(), random_trees(11)
    with torch.no_grad():
        wanted = naive_logps(model, some)
        model.set_attn_implementation("flex_attention")
        with torch.compiler.set_stance("force_eager"):
            found = tree_logps(model, some, layout=FLEX).values
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_flex_attention_gives_the_values_and_gradients_of_separate_rows():
    model, some = tiny_flex("cuda"), random_trees(11, n=8, longest=60)
    reference = tiny_flex("cpu")
    layout = choose_layout(model, longest=120)
    assert (layout.kind, layout.kernel) == ("tree", "flex")
    found = tree_logps(model, some, layout=layout).values
    wanted = naive_logps(reference, some)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-3)
    found.sum().backward()
    wanted.sum().backward()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        gap = float((one.grad.cpu() - other.grad).norm())
        assert gap < 1e-2 * float(other.grad.norm()) + 1e-4
