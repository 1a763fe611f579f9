"""The ratios of `make bench-train`: what was computed counts, where both computed the same."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.train.verdict import Run, best, losses_agree, verdict

TRL = Run(
    side="trl",
    config="micro-batch 1",
    phase="first",
    batch_size=8,
    losses=(0.6931, 0.6900),
    step_seconds=(50.0, 16.0),
    reference_seconds=0.0,
    reference_pairs=0,
    peak_bytes=4_000,
    seconds=70.0,
    ended=None,
)
# 8 pairs in 4 s and 64 in 32 s of reference: 1 s a pair. With the reference kept, half a second.
OURS = replace(
    TRL,
    side="prefkit",
    config="tokens at once 512",
    step_seconds=(9.0, 4.0),
    reference_seconds=32.0,
    reference_pairs=64,
    peak_bytes=1_000,
)
AGAIN = replace(OURS, phase="again", reference_seconds=0.0, reference_pairs=0)
# A second β in TRL: 0.5 s a pair to precompute again, then 1.5 s a pair.
TRL_AGAIN = replace(
    TRL, phase="again", step_seconds=(50.0, 12.0), reference_seconds=32.0, reference_pairs=64
)


def judged(*runs):
    return verdict(list(runs), trl=TRL.config, ours=OURS.config)


def test_the_first_step_is_warm_up_and_the_reference_counts():
    assert TRL.pairs_per_second == 0.5
    assert OURS.pairs_per_second == 1.0
    assert AGAIN.pairs_per_second == 2.0


def test_ratios_are_ours_over_trl():
    result = judged(TRL, OURS, AGAIN, TRL_AGAIN)
    assert result["pairs_per_s_ratio"] == 2.0
    assert result["peak_memory_ratio"] == 0.25
    assert result["second_beta_ratio"] == 4.0
    assert result["second_epoch_ratio"] == 3.0  # 2 pairs/s against 8 in 12 s


def test_a_second_beta_is_compared_with_trls_cheaper_way():
    slow = replace(TRL_AGAIN, reference_seconds=64.0)  # 0.4 pairs/s: its steps alone are cheaper
    assert judged(TRL, OURS, AGAIN, slow)["second_beta_ratio"] == 4.0
    quick = replace(TRL_AGAIN, reference_seconds=0.0)
    assert judged(TRL, OURS, AGAIN, quick)["second_beta_ratio"] == 3.0


def test_a_row_is_void_where_losses_differ():
    off = replace(OURS, losses=(0.6931, 0.6908))
    result = judged(TRL, off, AGAIN, TRL_AGAIN)
    assert result["pairs_per_s_ratio"] is None
    assert result["peak_memory_ratio"] is None
    assert result["second_beta_ratio"] == 4.0
    assert result["losses_agree"] is False


def test_the_losses_of_the_second_beta_are_compared_too():
    off = replace(AGAIN, losses=(0.6931, 0.7))
    result = judged(TRL, OURS, off, TRL_AGAIN)
    assert result["second_beta_ratio"] is None
    assert result["pairs_per_s_ratio"] == 2.0


def test_without_figures_of_a_side_there_is_no_ratio():
    dead = replace(TRL, ended="out of memory", losses=(), step_seconds=())
    result = judged(dead, OURS)
    assert result["pairs_per_s_ratio"] is None
    assert result["second_beta_ratio"] is None


def test_agreement_is_within_a_thousandth_of_the_loss():
    assert losses_agree([0.6931, 0.6930], [0.6931, 0.6936])
    assert not losses_agree([0.6931, 0.6920], [0.6931, 0.6931])
    assert not losses_agree([], [0.6931])


def test_the_best_configuration_is_the_fastest_that_finished():
    faster = replace(TRL, config="micro-batch 2", step_seconds=(50.0, 10.0))
    dead = replace(TRL, config="micro-batch 8", ended="out of memory", step_seconds=())
    assert best([TRL, faster, dead]) == "micro-batch 2"
