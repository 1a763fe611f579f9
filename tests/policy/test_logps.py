"""Log-probs of packed trees against a row an answer with all its logits, in fp64 and fp32."""

from __future__ import annotations

import copy

import numpy as np
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from tree_cases import make_tree, naive_logps, naive_tables, random_trees, trees

from prefkit.policy.logps import answer_states, tree_logps
from prefkit.policy.packing import Layout, pack_shared, plan_packs
from prefkit.policy.trees import Branch, Tree

SHARED = Layout("tree", "sdpa", "")
PADDED = Layout("padded", "sdpa", "")
LAYOUTS = [SHARED, PADDED]


def in_fp64(model):
    """``model`` with fp64 norms too: Llama's own round to fp32 inside whatever the model is in."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, LlamaRMSNorm):
                whole = torch.nn.RMSNorm(len(norm.weight), norm.variance_epsilon)
                whole.weight = norm.weight
                setattr(parent, name, whole)
    return model.double()


@pytest.fixture(scope="module")
def exact(tiny_model_dir):
    """The tiny Llama in fp64."""
    return in_fp64(AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval())


@pytest.fixture(scope="module")
def single(tiny_model_dir):
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()


def gradients(model, loss):
    wanted = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(some=trees)
def test_log_probs_equal_the_naive_ones_to_1e_10_in_fp64(exact, layout, some):
    with torch.no_grad():
        found = tree_logps(exact, some, layout=layout)
        torch.testing.assert_close(found.values, naive_logps(exact, some), rtol=0, atol=1e-10)
    assert found.values.dtype == torch.float64


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(some=trees)
def test_log_probs_equal_the_naive_ones_to_1e_5_in_fp32(single, layout, some):
    with torch.no_grad():
        found = tree_logps(single, some, layout=layout).values
        torch.testing.assert_close(found, naive_logps(single, some), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(some=trees)
def test_gradients_equal_the_naive_ones_to_1e_10_in_fp64(exact, layout, some):
    found = tree_logps(exact, some, layout=layout).values
    upstream = torch.linspace(-1, 2, len(found), dtype=torch.float64)
    wanted = gradients(exact, naive_logps(exact, some) @ upstream)
    for one, other in zip(gradients(exact, found @ upstream), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@given(some=trees)
def test_gradients_equal_the_naive_ones_to_1e_5_in_fp32(single, some):
    """Relative to the gradient's size: single entries of a sum that cancels lose digits."""
    found = gradients(single, tree_logps(single, some, layout=SHARED).values.sum())
    wanted = gradients(single, naive_logps(single, some).sum())
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-6


@given(some=trees, seed=st.integers(0, 99))
def test_neither_order_nor_packing_changes_a_log_prob(exact, some, seed):
    order = np.random.default_rng(seed).permutation(len(some))
    with torch.no_grad():
        whole = tree_logps(exact, some, layout=SHARED)
        shuffled = tree_logps(exact, [some[i] for i in order], layout=SHARED)
        alone = [tree_logps(exact, [tree], layout=SHARED).values for tree in some]
    ends = np.cumsum([tree.n_scored for tree in some])
    split = np.split(np.arange(len(whole.values)), ends[:-1])
    torch.testing.assert_close(whole.values, torch.cat(alone), rtol=0, atol=1e-10)
    moved = torch.from_numpy(np.concatenate([split[i] for i in order]).astype(np.int64))
    torch.testing.assert_close(shuffled.values, whole.values[moved], rtol=0, atol=1e-10)


@given(some=trees)
def test_a_tree_cut_into_one_tree_a_branch_scores_the_same(exact, some):
    cut = [Tree(tree.prompt, (branch,)) for tree in some for branch in tree.branches]
    with torch.no_grad():
        one = tree_logps(exact, some, layout=SHARED)
        other = tree_logps(exact, cut, layout=SHARED)
    torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-10)
    assert torch.equal(one.answer, other.answer)


def test_sums_are_by_branch_and_zero_where_nothing_is_scored(exact):
    silent = Branch(np.array([4, 5], np.int32), np.zeros(2, np.bool_))
    some = [make_tree([1, 2], [3], [4, 5]), Tree(np.array([7], np.int32), (silent,))]
    with torch.no_grad():
        found = tree_logps(exact, some, layout=SHARED)
    assert found.n_answers == 3
    assert found.answer.tolist() == [0, 1, 1]
    assert found.sums().tolist() == [
        found.values[0].item(),
        pytest.approx(found.values[1:].sum().item()),
        0.0,
    ]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
def test_trees_without_a_scored_token_need_no_forward_pass(exact, layout):
    silent = Branch(np.array([4, 5], np.int32), np.zeros(2, np.bool_))
    found = tree_logps(exact, [Tree(np.array([7], np.int32), (silent, silent))], layout=layout)
    assert found.values.shape == (0,)
    assert found.sums().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(some=trees)
def test_statistics_are_those_of_the_naive_softmax(exact, layout, some):
    with torch.no_grad():
        found = tree_logps(exact, some, layout=layout, statistics=True)
        tables = [t[torch.from_numpy(b.scored)] for b, t in naive_tables(exact, some)]
    table = torch.cat(tables)
    torch.testing.assert_close(found.entropy, -(table.exp() * table).sum(1), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.log_p2, table.mul(2).exp().sum(1).log(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(some=trees)
def test_answer_states_are_the_last_hidden_states_of_single_rows(exact, layout, some):
    with torch.no_grad():
        found = answer_states(exact, some, layout=layout)
        wanted = [
            exact.model(
                input_ids=torch.from_numpy(np.concatenate([t.prompt, b.ids]).astype(np.int64))[None]
            ).last_hidden_state[0, -1]
            for t in some
            for b in t.branches
        ]
    torch.testing.assert_close(found, torch.stack(wanted), rtol=0, atol=1e-10)


@given(some=trees)
def test_tokens_that_predict_nothing_scored_are_left_out(some):
    packed = pack_shared(some, whole=False)
    needed = 0
    for tree in some:
        ends = [int(np.flatnonzero(b.scored)[-1]) for b in tree.branches if b.n_scored]
        needed += len(tree.prompt) + sum(ends) if ends else 0
    assert packed.n_real == packed.ids.size == needed
    assert len(packed.where) == len(packed.targets) == sum(tree.n_scored for tree in some)


@given(
    sizes=st.lists(st.integers(1, 60), max_size=40),
    budget=st.integers(1, 80),
)
def test_packs_hold_every_index_once_and_keep_to_the_budget(sizes, budget):
    packs = plan_packs(sizes, budget)
    assert sorted(i for pack in packs for i in pack) == list(range(len(sizes)))
    for pack in packs:
        assert len(pack) == 1 or sum(sizes[i] for i in pack) <= budget
    assert packs == first_fit(sizes, budget)


def first_fit(sizes, budget):
    """By its definition: the largest first, each into the first pack that has room for it."""
    packs: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for pack in packs:
            if sum(sizes[i] for i in pack) + sizes[index] <= budget:
                pack.append(index)
                break
        else:
            packs.append([index])
    return [sorted(pack) for pack in packs]


def test_thousands_of_packs_are_planned_without_looking_at_each():
    """A scan of all open packs took 25 s for 20 000 trees (2026-11-21)."""

    class Counted(int):
        n_compared = 0

        def __ge__(self, other):
            Counted.n_compared += 1
            return int(self) >= int(other)

        def __sub__(self, other):
            return Counted(int(self) - int(other))

    n = 4096
    assert len(plan_packs([200] * n, Counted(256))) == n
    assert Counted.n_compared <= n * 13


def test_checkpointed_activations_change_no_gradient(exact):
    some = random_trees(3)
    model = copy.deepcopy(exact).train()
    plain = gradients(model, tree_logps(model, some, layout=SHARED).values.sum())
    model.gradient_checkpointing_enable()
    again = gradients(model, tree_logps(model, some, layout=SHARED).values.sum())
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.fixture
def bare(tiny_model_dir):
    """A model of its own, for adapters; embeddings and head are apart."""
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model_dir, dtype=torch.float64, tie_word_embeddings=False
    )
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    return in_fp64(model)


LORA = {"r": 3, "lora_alpha": 5, "init_lora_weights": False}
ADAPTERS = {
    "lora": peft.LoraConfig(**LORA, target_modules=["q_proj", "down_proj"]),
    "lora on the head": peft.LoraConfig(**LORA, target_modules=["v_proj", "lm_head"]),
    "lora on the head with bias": peft.LoraConfig(
        **LORA, target_modules=["o_proj", "lm_head"], lora_bias=True
    ),
    "dora": peft.LoraConfig(**LORA, target_modules=["q_proj"], use_dora=True),
    "dora on the head": peft.LoraConfig(**LORA, target_modules=["lm_head"], use_dora=True),
    "a trained copy of the head": peft.LoraConfig(
        **LORA, target_modules=["q_proj"], modules_to_save=["lm_head"]
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_are_followed_in_value_and_gradient_and_can_be_off(bare, name, layout):
    some = random_trees(5)
    with torch.no_grad():
        before = tree_logps(bare, some, layout=layout).values
    model = peft.get_peft_model(bare, ADAPTERS[name], autocast_adapter_dtype=False).double()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64) * 0.1)
    found, wanted = tree_logps(model, some, layout=layout).values, naive_logps(model, some)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    assert float((found - before).detach().abs().max()) > 1e-2
    pairs = zip(gradients(model, found.sum()), gradients(model, wanted.sum()), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(tree_logps(model, some, layout=layout).values, before)


VIRTUAL = {
    "prefix": lambda: peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5),
    "prompt": lambda: peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}


def naive_virtual(model, some):
    """peft's own forward, a row at a time; its logits begin with the virtual tokens or after."""
    parts = []
    for tree in some:
        for branch in tree.branches:
            ids = torch.from_numpy(np.concatenate([tree.prompt, branch.ids]).astype(np.int64))
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            table = logits[-len(ids) :].log_softmax(-1)[len(tree.prompt) - 1 : -1]
            answer = torch.from_numpy(branch.ids.astype(np.int64))
            parts.append(
                table.gather(1, answer[:, None]).squeeze(1)[torch.from_numpy(branch.scored)]
            )
    return torch.cat(parts)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@pytest.mark.parametrize("kind", VIRTUAL)
def test_virtual_tokens_are_seen_by_every_tree(bare, kind, layout, checkpointed):
    some = random_trees(7)
    with torch.no_grad():
        before = tree_logps(bare, some, layout=layout).values
    model = peft.get_peft_model(bare, VIRTUAL[kind]()).double().train()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    wanted = naive_virtual(model, some)
    expected = gradients(model, wanted.sum())
    if checkpointed:
        bare.gradient_checkpointing_enable()
    found = tree_logps(model, some, layout=layout).values
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    for one, other in zip(gradients(model, found.sum()), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(tree_logps(model, some, layout=layout).values, before)
