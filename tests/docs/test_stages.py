"""docs/stages.md from SFT to DPO, as it is typed, on the tiny model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from doc_pages import run_page

from prefkit.core.records import Vote
from prefkit.formats.tables import read_records

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stages.md"


@pytest.mark.slow
def test_sft_a_reward_model_its_votes_and_dpo_follow_one_another(
    tiny_model_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    assert run_page(PAGE, tmp_path, model=str(tiny_model_dir)) == 6
    results = {
        name: json.loads((tmp_path / name / "train.json").read_text())
        for name in ("sft", "rewards", "dpo")
    }
    started = results["sft"]["result"]["digest"]
    assert results["rewards"]["start_adapter"] == results["dpo"]["start_adapter"] == started
    for name in ("rewards", "dpo"):
        assert results[name]["result"]["first_loss"] == pytest.approx(math.log(2), abs=5e-3)
    assert results["rewards"]["result"]["n_heldout"] == 1
    votes, again = (read_records(tmp_path / f"{n}.parquet", Vote) for n in ("votes", "votes-again"))
    assert [vote.rater_kind for vote in votes] == ["reward"] * 4
    assert [v.p_a for v in again] == pytest.approx([v.p_a for v in votes], abs=0.02)
    judged = results["dpo"]["result"]
    assert judged["n_rows"] + sum(judged["dropped"].values()) == 4
    card = (tmp_path / "dpo" / "adapter" / "README.md").read_text()
    assert "reward: 4 votes of 1 raters" in card
