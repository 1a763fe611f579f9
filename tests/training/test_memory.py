"""Where a device's memory runs out, a run needs less or says what would."""

import numpy as np
import pytest
import torch
from tree_cases import random_trees

from prefkit.core.errors import EnvironmentFault
from prefkit.core.progress import silent
from prefkit.policy.logp_store import logp_keys
from prefkit.policy.logps import TokenLogps
from prefkit.training import TrainSettings, train
from prefkit.training.gradient import Gradient
from prefkit.training.lanes import Lanes
from prefkit.training.ranks import Ranks
from prefkit.training.reference import score_missing


def trees_of():
    return random_trees(3, n=7)


def score_up_to(most, asked):
    """A scorer whose values are the tokens themselves, and whose memory holds ``most`` trees."""

    def score(trees):
        asked.append(len(trees))
        if len(trees) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        ids = [branch.ids[branch.scored] for tree in trees for branch in tree.branches]
        values = torch.from_numpy(np.concatenate(ids).astype(np.float32))
        answer = torch.zeros(len(values), dtype=torch.long)
        return TokenLogps(values, answer, len(ids), None, None)

    return score


def scored(trees, score, ranks=None):
    return score_missing(
        trees, score, None, lambda todo: [list(range(len(todo)))], ranks or Ranks(), Lanes(),
        progress=silent,
    )  # fmt: skip


def test_a_reference_that_does_not_fit_is_scored_in_halves():
    trees, asked = trees_of(), []
    whole = scored(trees, score_up_to(100, []))
    halves = scored(trees, score_up_to(2, asked))
    assert asked == [7, 3, 1, 2, 4, 2, 2]
    assert halves.keys() == whole.keys() == {key for tree in trees for key in logp_keys(tree)}
    assert all((halves[key] == whole[key]).all() for key in whole)


def test_a_row_of_the_reference_that_does_not_fit_alone_is_told():
    trees = trees_of()
    with pytest.raises(EnvironmentFault, match="scoring the reference: not enough memory") as told:
        scored(trees, score_up_to(0, []))
    assert "max_length" in (told.value.hint or "")


def test_sharded_ranks_halve_nothing_alone():
    asked = []
    with pytest.raises(EnvironmentFault, match="not enough memory"):
        scored(trees_of(), score_up_to(2, asked), Ranks(sharded=True))
    assert asked == [7]


def test_memory_that_runs_out_anywhere_else_is_told_with_what_needs_less(
    tiny_model_dir, pairs, tmp_path, monkeypatch
):
    """The optimiser's state, say: CPUs do not run out on demand."""

    def full(self, rows):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    monkeypatch.setattr(Gradient, "collect", full)
    plan = TrainSettings(device="cpu", max_steps=1, trackers=[], reference_store="none")
    with pytest.raises(
        EnvironmentFault, match=r"full: CUDA out of memory\. Tried to allocate 2\.00 GiB$"
    ) as told:
        train(str(tiny_model_dir), pairs[:4], plan, out=tmp_path)
    assert "activation_checkpointing=true" in (told.value.hint or "")
