"""Log-probs by content: what is found is what was kept, whatever else changed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.policy.logp_store import LogpStore, logp_keys, missing
from prefkit.policy.trees import Branch, Tree


def tree(prompt, *answers, unscored=()):
    branches = []
    for answer in answers:
        scored = np.ones(len(answer), dtype=np.bool_)
        scored[list(unscored)] = False
        branches.append(Branch(np.asarray(answer, dtype=np.int32), scored))
    return Tree(np.asarray(prompt, dtype=np.int32), tuple(branches))


ids = st.lists(st.integers(0, 9), min_size=1, max_size=4)
trees = st.builds(tree, ids, ids, ids)


@settings(max_examples=25, deadline=None)
@given(st.lists(trees, min_size=1, max_size=6), st.sampled_from(["float32", "float64"]))
def test_what_was_kept_is_found_bit_for_bit(tmp_path_factory, found, dtype):
    store = LogpStore.of("model", dtype, root=tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    items = {}
    for one in found:
        for key, branch in zip(logp_keys(one), one.branches, strict=True):
            items[key] = rng.normal(size=branch.n_scored).astype(dtype)
    store.add(items)
    back = store.find(items)
    assert back.keys() == items.keys()
    for key, values in items.items():
        assert back[key].dtype == dtype
        np.testing.assert_array_equal(back[key], values)
    assert missing(found, back) == []


def test_a_key_covers_prompt_answer_and_what_is_scored():
    keys = [
        logp_keys(tree([1, 2], [3, 4]))[0],
        logp_keys(tree([1], [2, 3, 4]))[0],
        logp_keys(tree([1, 2], [3, 5]))[0],
        logp_keys(tree([1, 2], [3, 4], unscored=[0]))[0],
    ]
    assert len(set(keys)) == 4
    assert logp_keys(tree([1, 2], [9], [3, 4]))[1] == keys[0], "the other branches do not matter"


def test_another_model_or_precision_is_another_store(tmp_path):
    one = LogpStore.of("a", "float32", root=tmp_path)
    one.add({logp_keys(tree([1], [2]))[0]: np.zeros(1, dtype=np.float32)})
    for other in (("b", "float32"), ("a", "bfloat16")):
        assert LogpStore.of(*other, root=tmp_path).find(logp_keys(tree([1], [2]))) == {}
    assert len(one.find(logp_keys(tree([1], [2])))) == 1


def test_files_are_added_and_a_damaged_one_reads_as_absent(tmp_path):
    store = LogpStore(tmp_path / "s")
    first, second = logp_keys(tree([1], [2], [3]))
    store.add({first: np.ones(1, dtype=np.float32)})
    store.add({second: np.ones(1, dtype=np.float32)})
    files = sorted((tmp_path / "s").iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:40])
    assert len(store.find([first, second])) == 1


@pytest.mark.parametrize("items", [{}, {b"0123456789abcdef": np.zeros(0, dtype=np.float32)}])
def test_nothing_and_an_answer_without_scored_tokens_are_fine(tmp_path, items):
    store = LogpStore(tmp_path)
    store.add(items)
    assert store.find(items).keys() == items.keys()
