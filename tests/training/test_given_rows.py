"""Runs on data of every kind: soft labels reach the loss, and every row and answer is counted."""

import json
import shutil
from dataclasses import replace

import pytest

from prefkit.core.errors import ConfigError, DataError
from prefkit.core.records import TrainRow
from prefkit.training import TrainSettings, train


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return str(tiny_model_dir)


def settings(**changes):
    values = {"dtype": "float32", "device": "cpu", "max_steps": 1, "trackers": []}
    return TrainSettings(**{**values, "reference_store": "none", **changes})


def labels(out):
    """What the first step saw of each row: id → p."""
    line = json.loads((out / "rows.jsonl").read_text().splitlines()[0])
    return dict(zip(line["id"], line["p"], strict=True))


@pytest.mark.parametrize("loss", ["kto", "bco_unpaired", "apo_zero_unpaired"])
def test_a_soft_label_reaches_the_losses_of_single_answers(model, pairs, tmp_path, loss):
    pair = replace(pairs[0], p=0.75)
    rows = [pair, *pairs[1:4]]
    train(model, rows, settings(loss=loss), out=tmp_path / "soft")
    seen = labels(tmp_path / "soft")
    assert (seen[f"{pair.id}-chosen"], seen[f"{pair.id}-rejected"]) == (0.75, 0.25)
    train(model, rows, settings(loss=loss, labels="hard"), out=tmp_path / "hard")
    assert set(labels(tmp_path / "hard").values()) == {0.0, 1.0}


@pytest.mark.parametrize("loss", ["sft", "plackett_luce", {"sigmoid": 1.0, "sft": 1.0}], ids=str)
def test_a_soft_pair_is_refused_by_losses_without_a_soft_form_alone_as_in_a_mixture(
    model, pairs, tmp_path, loss
):
    rows = [replace(pair, p=0.75) for pair in pairs[:4]]
    with pytest.raises(ConfigError, match=r"takes no soft label, and row .* has p = 0.75") as told:
        train(model, rows, settings(loss=loss), out=tmp_path)
    assert "labels=hard" in (told.value.hint or "")
    assert train(model, rows, settings(loss=loss, labels="hard"), out=tmp_path).n_rows == 4


def test_a_soft_pair_that_is_dropped_is_in_no_losses_way(model, pairs, tmp_path):
    rows = [replace(pairs[0], p=0.75, weight=0.0), *(replace(p, p=1.0) for p in pairs[1:5])]
    result = train(model, rows, settings(loss="sft"), out=tmp_path)
    assert (result.n_rows, result.dropped) == (4, {"zero_weight": 1})


def test_the_accuracy_counts_every_judged_pair_once(model, pairs, tmp_path):
    """Steps of four and one pair: what rows.jsonl says of all five, not the mean of two means.
    The first four are ties, before any step was taken."""
    plan = settings(max_steps=None, epochs=1, batch_size=4, learning_rate=5e-3, warmup=0.0)
    result = train(model, pairs[:5], plan, out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    judged = [
        0.5 if margin == 0 else float(margin > 0) for line in lines for margin in line["margin"]
    ]
    assert sorted(judged)[:4] != sorted(judged)[1:], "the fifth is no tie"
    assert result.reward_accuracy == pytest.approx(sum(judged) / len(judged))


def test_kto_counts_pairs_and_says_how_many_answers_they_are(model, pairs, tmp_path):
    same = replace(pairs[0], rejected=pairs[0].chosen)
    result = train(model, [same, *pairs[1:9]], settings(loss="kto"), out=tmp_path)
    assert (result.n_rows, result.n_trained, result.dropped) == (8, 16, {"identical": 1})
    assert "8 trained on as 16 single answers" in result.facts()["rows"]


def test_one_held_out_prompt_borrows_from_the_rows_trained_on(model, pairs, tmp_path):
    found = train(model, pairs[:8], settings(loss="kto"), out=tmp_path, heldout=pairs[8:9])
    assert found.n_heldout == 1
    assert found.heldout_loss is not None
    row = TrainRow("only", pairs[0].prompt, (pairs[0].chosen,), "unpaired")
    with pytest.raises(DataError, match="one prompt is not enough"):
        train(model, [row], settings(loss="kto"), out=tmp_path / "x", heldout=pairs[8:9])


SHOWN = [{"prompt": f"the sea {i}?", "completion": "a fox!"} for i in range(4)]
RANKED = [
    {"prompt": f"the sea {i}?", "completions": ["a", "b", "c"], "scores": [1, 1, 0]}
    for i in range(4)
]


@pytest.mark.parametrize("rows", [SHOWN, RANKED], ids=["demonstrations", "rankings"])
def test_nll_learns_from_every_kind_of_row_it_names(model, tmp_path, rows):
    found = train(model, rows, settings(loss="nll"), out=tmp_path / "nll")
    assert found.n_rows == 4
    line = json.loads((tmp_path / "nll" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["nll_per_token"] == pytest.approx(found.first_loss, rel=0.2)


def test_answers_that_are_left_out_and_sides_that_are_swapped_are_told(model, tmp_path):
    ranked = train(model, RANKED, settings(loss="plackett_luce"), out=tmp_path / "a")
    assert ranked.left_out == {"tied": 4}
    assert ranked.facts()["answers left out"] == "4 tied"
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "p": p} for p in (0.2, 0.9)]
    swapped = train(model, rows, settings(), out=tmp_path / "b")
    assert swapped.n_flipped == 1
    assert "1 (p < 0.5)" in swapped.facts()["sides swapped"]
    stored = json.loads((tmp_path / "b" / "train.json").read_text())["result"]
    assert (stored["n_flipped"], stored["left_out"]) == (1, {})


def test_held_out_prompts_that_are_trained_on_too_are_counted(model, pairs, tmp_path):
    found = train(model, pairs[:8], settings(), out=tmp_path / "a", heldout=pairs[6:12])
    shared = {p.prompt.id for p in pairs[:8]} & {p.prompt.id for p in pairs[6:12]}
    assert found.n_shared_prompts == len(shared) >= 2
    assert found.facts()["held-out prompts"] == f"{len(shared)} are trained on too"
    apart = train(model, pairs, settings(heldout_share=0.3), out=tmp_path / "b")
    assert apart.n_heldout > 0
    assert apart.n_shared_prompts == 0
    assert "held-out prompts" not in apart.facts()


def test_raw_text_is_held_out_and_measured(model, tmp_path):
    raw = [{"chosen": f"the {i} sea fox", "rejected": f"the {i} sea dog"} for i in range(12)]
    found = train(
        model, raw, settings(heldout_share=0.3, evaluate_every=1, n_samples=2), out=tmp_path
    )
    assert found.n_heldout > 0
    assert found.heldout_accuracy is not None
    facts = json.loads((tmp_path / "adapter" / "prefkit.json").read_text())
    assert facts["data"]["n_prompts"] == found.n_rows


@pytest.mark.parametrize("wish", [{"evaluate_every": 1}, {"n_samples": 2}], ids=str)
def test_a_run_that_cannot_be_measured_says_why(model, pairs, tmp_path, wish):
    with pytest.raises(ConfigError, match=rf"{next(iter(wish))} needs held-out .* \(none given\)"):
        train(model, pairs[:4], settings(**wish), out=tmp_path)
    one = [replace(pair, prompt=pairs[0].prompt) for pair in pairs[:4]]
    with pytest.raises(ConfigError, match="all rows are on one prompt") as told:
        train(model, one, settings(**wish, heldout_share=0.5), out=tmp_path)
    assert "heldout_share" not in (told.value.hint or "")


def test_rows_without_a_p_beside_rows_with_one_are_counted_in_the_result(model, tmp_path):
    rows = [
        {"prompt": f"the sea {i}?", "chosen": "a", "rejected": "b", "p": p, "id": f"mine {i}"}
        for i, p in enumerate((0.8, None, 0.9, None))
    ]
    found = train(model, rows, settings(), out=tmp_path)
    assert found.n_without_p == 2
    assert found.facts()["rows without p"] == "2, taken as certain"
    seen = labels(tmp_path)
    assert seen == {"mine 0": 0.8, "mine 1": 1.0, "mine 2": 0.9, "mine 3": 1.0}
    worst = (tmp_path / "worst.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in worst} == set(seen)
    full = [{**row, "p": 1.0} for row in rows]
    assert "rows without p" not in train(model, full, settings(), out=tmp_path / "b").facts()


def test_a_fault_of_a_row_names_it_as_its_data_do(model, tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b \ud83d", "id": 41}]
    with pytest.raises(DataError, match=r"row 41 \(list: row 1\): rejected is no valid Unicode"):
        train(model, rows, settings(), out=tmp_path)


def test_arguments_of_the_template_for_a_whole_run_reach_every_row(tiny_model_dir, pairs, tmp_path):
    """The held-out rows too; and what fits worst is written with them."""
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    template = model / "chat_template.jinja"
    template.write_text("{% if loud %}!{% endif %}" + template.read_text())
    loud = {"loud": True}
    rows = [TrainRow.of(pair) for pair in pairs[:6]]
    own = [replace(row, arguments=loud) for row in rows]

    def trained(name, rows, **changes):
        plan, out = settings(**changes), tmp_path / name
        found = train(str(model), rows[:4], plan, out=out, heldout=rows[4:])
        facts = json.loads((found.folder / "prefkit.json").read_text())
        return facts["data"]["digest"], found.heldout_loss

    whole = trained("whole", rows, chat_template_kwargs=loud)
    assert whole == trained("own", own)
    assert whole == trained("over", own, chat_template_kwargs={"loud": False})
    plain = trained("plain", rows)
    assert whole[0] != plain[0]
    assert whole[1] != plain[1]
    worst = (tmp_path / "whole" / "worst.jsonl").read_text().splitlines()
    assert [json.loads(line)["chat_template_kwargs"] for line in worst] == [loud] * 4
