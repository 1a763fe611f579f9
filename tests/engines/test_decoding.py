"""The batched decoder against transformers' own generate, and the laws of drawing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tree_cases import make_tree  # noqa: E402

from prefkit.engines.attention import grouped_step, use_grouped_attention  # noqa: E402
from prefkit.engines.decoding import Continuation, Decoder, invert  # noqa: E402
from prefkit.policy.logps import tree_logps  # noqa: E402
from prefkit.policy.packing import Layout  # noqa: E402

SYSTEM = tuple(range(40, 60))  # a common beginning, long enough to be shared


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    use_grouped_attention(loaded)
    return loaded


def prompts(n: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(7)
    lengths = [3 + (5 * i) % 17 for i in range(n)]
    return [
        SYSTEM + tuple(torch.randint(5, 300, (length,), generator=generator).tolist())
        for length in lengths
    ]


def work(temperature: float = 0.0, n: int = 1, top_p: float = 1.0, count: int = 9):
    return [
        Continuation(i, ids, tuple(100 * i + k for k in range(n)), temperature, top_p, 12)
        for i, ids in enumerate(prompts(count))
    ]


def run(model, sequences, *, batch_size=4, stop=frozenset(), share_prefix=True):
    decoder = Decoder(model, stop_ids=stop, batch_size=batch_size, share_prefix=share_prefix)
    rows = list(decoder.run(sequences))
    return {(row.index, row.sample): row for row in rows}, rows


def reference(model, ids, stop, steps=12) -> list[int]:
    """One greedy answer, one forward pass over the whole text a token: no cache, no batch."""
    tokens = list(ids)
    for _ in range(steps):
        with torch.inference_mode():
            logits = model(torch.tensor([tokens])).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] in stop:
            break
    return tokens[len(ids) :]


@pytest.fixture(scope="module")
def stop(model) -> frozenset[int]:
    """Tokens that cut some greedy answers short and not others."""
    answers = [reference(model, ids, frozenset()) for ids in prompts(9)]
    chosen = frozenset({answers[0][2], answers[3][6], answers[5][9]})
    lengths = {len(reference(model, ids, chosen)) for ids in prompts(9)}
    assert len(lengths) > 2
    return chosen


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_greedy_answers_equal_one_by_one_decoding_without_cache(
    model, stop, batch_size, share_prefix
):
    found, rows = run(model, work(), batch_size=batch_size, stop=stop, share_prefix=share_prefix)
    assert len(rows) == 9
    for index, ids in enumerate(prompts(9)):
        row = found[index, 0]
        assert row.tokens == reference(model, ids, stop)
        assert row.stopped == (row.tokens[-1] in stop)


def test_prompts_without_anything_in_common_are_decoded_alike(model, stop):
    bare = [Continuation(i, ids[20:], (i,), 0.0, 1.0, 12) for i, ids in enumerate(prompts(5))]
    found, _ = run(model, bare, stop=stop)
    for sequence in bare:
        assert found[sequence.index, 0].tokens == reference(model, sequence.ids, stop)


def test_a_prompt_that_is_all_prefix_still_gets_an_answer(model):
    same = [Continuation(i, SYSTEM, (i,), 0.0, 1.0, 5) for i in range(3)]
    found, _ = run(model, same)
    expected = reference(model, SYSTEM, frozenset(), steps=5)
    assert [found[i, 0].tokens for i in range(3)] == [expected] * 3


def test_a_sample_depends_on_its_seed_and_not_on_batch_order_or_neighbours(model, stop):
    sequences = work(temperature=1.0, n=3)
    one, _ = run(model, sequences, batch_size=64, stop=stop)
    other, _ = run(model, sequences[::-1], batch_size=3, stop=stop, share_prefix=False)
    assert {key: row.tokens for key, row in one.items()} == {
        key: row.tokens for key, row in other.items()
    }
    assert len({tuple(row.tokens) for row in one.values()}) > 20


def test_more_samples_than_the_batch_holds_are_still_all_written(model):
    found, rows = run(model, work(temperature=1.0, n=5, count=3), batch_size=2)
    assert len(rows) == len(found) == 15


def test_logprob_is_the_models_own_at_any_temperature(model, stop):
    found, _ = run(model, work(temperature=0.7, n=2, top_p=0.9), stop=stop)
    trees = [
        make_tree(ids, *(found[i, s].tokens for s in range(2))) for i, ids in enumerate(prompts(9))
    ]
    with torch.inference_mode():
        expected = tree_logps(model, trees, layout=Layout("tree", "sdpa", "")).sums()
    ours = torch.tensor([found[i, s].logprob for i in range(9) for s in range(2)])
    torch.testing.assert_close(ours, expected.float(), atol=1e-3, rtol=1e-4)


masses = st.lists(st.integers(0, 1000), min_size=2, max_size=40).filter(lambda m: sum(m) > 0)


@given(masses, st.floats(0, 1, exclude_max=True), st.floats(0.05, 1))
def test_a_drawn_token_has_mass_and_lies_in_the_nucleus(weights, uniform, top_p):
    p = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    token = int(invert(p[None], torch.tensor([top_p]), torch.tensor([uniform]))[0])
    assert p[token] > 0
    likelier = float(p[p > p[token]].sum())
    assert likelier < top_p + 1e-6


@given(masses)
def test_uniforms_on_a_grid_draw_each_token_as_often_as_its_probability(weights):
    p = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    n = 4000
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = invert(p.expand(n, -1), torch.ones(n), uniforms)
    shares = torch.bincount(drawn, minlength=len(weights)) / n
    assert float((shares - p).abs().max()) <= 1.5 / n


def test_a_nucleus_wider_than_the_fast_path_is_found_by_the_full_sort():
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn(3, 5000, generator=generator) * 0.1, -1).double()
    uniforms = torch.tensor([0.2, 0.5, 0.999999], dtype=torch.float64)
    drawn = invert(p, torch.full((3,), 0.9), uniforms)
    for row, token in enumerate(drawn.tolist()):
        assert float(p[row][p[row] > p[row, token]].sum()) < 0.9


def test_grouped_attention_equals_attention_with_repeated_keys():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 6, 1, 8, generator=generator)
    key, value = (torch.randn(3, 2, 11, 8, generator=generator) for _ in range(2))
    mask = torch.rand(3, 1, 1, 11, generator=generator) > 0.4
    mask[..., -1] = True
    repeated = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(3, 1),
        value.repeat_interleave(3, 1),
        attn_mask=mask,
        scale=0.3,
    ).transpose(1, 2)
    torch.testing.assert_close(grouped_step(query, key, value, mask, 0.3), repeated)
