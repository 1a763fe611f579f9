"""``prefkit inspect DATA --as-trained MODEL`` as a command."""

import json
import shutil

import pytest

ROWS = [
    {"prompt": "the sea?", "chosen": "It is \x1b[31mblue.", "rejected": "No.", "p": 0.9},
    {"prompt": "the sun?", "chosen": "same", "rejected": "same"},
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_the_screen_marks_trained_tokens_and_names_rows_by_id_and_line(run, data, tiny_model_dir):
    code, out, _ = run("inspect", data, "--as-trained", tiny_model_dir)
    assert code == 0
    assert "{+No.<|end|>+}" in out
    assert "identical: 1 rows" in out
    assert f"{data}:2" in out
    assert "\x1b" not in out, "model text drives no terminal"


def test_json_says_the_same_in_one_line(run, data, tiny_model_dir):
    code, out, _ = run("inspect", data, "--as-trained", tiny_model_dir, "--json")
    assert code == 0
    value = json.loads(out)
    assert value["n_rows"] + sum(value["dropped"].values()) == value["n_read"] == 2
    assert list(value["findings"]) == ["identical"]
    assert value["rows"][0]["place"] == f"{data}:1"
    assert value["rows"][0]["answers"][1] == [{"text": "No.<|end|>", "how": "trained"}]
    assert value["p"] == {"0.8 to 0.9": 1}


def test_other_columns_are_mapped_and_max_length_is_trainings(run, tmp_path, tiny_model_dir):
    path = tmp_path / "odd.jsonl"
    path.write_text(json.dumps({"frage": "q", "gut": "fox " * 50, "schlecht": "dog " * 50}))
    words = ["--map", "prompt=frage", "--map", "chosen=gut", "--map", "rejected=schlecht"]
    code, out, _ = run(
        "inspect", path, *words, "--as-trained", tiny_model_dir, "--max-length", 40, "--json"
    )
    assert code == 0
    assert json.loads(out)["n_truncated"] == 1
    words += ["--as-trained", tiny_model_dir, "--max-length", 40, "--overlong", "drop", "--json"]
    code, out, _ = run("inspect", path, *words)
    assert json.loads(out)["dropped"] == {"overlong": 1}


def test_unpaired_answers_are_shown_as_they_are(run, tmp_path, tiny_model_dir):
    path = tmp_path / "kto.jsonl"
    path.write_text(json.dumps({"prompt": "q", "completion": "a", "label": False}))
    code, out, _ = run("inspect", path, "--as-trained", tiny_model_dir)
    assert code == 0
    assert "answer 1: {+a<|end|>+}" in out


def test_a_model_that_is_not_there_is_an_error_line(run, data, tmp_path):
    code, _, err = run("inspect", data, "--as-trained", tmp_path / "nowhere")
    assert code == 1
    assert "error:" in err


def test_rows_are_cut_to_the_models_own_context_as_training_does(run, tmp_path, tiny_model_dir):
    short = tmp_path / "short"
    shutil.copytree(tiny_model_dir, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"prompt": "q", "chosen": "fox " * 50, "rejected": "dog " * 50}))
    code, out, _ = run("inspect", path, "--as-trained", short, "--json")
    assert code == 0
    value = json.loads(out)
    assert (value["max_length"], value["n_truncated"]) == (40, 1)


def test_answers_left_out_and_swapped_sides_are_counted(run, tmp_path, tiny_model_dir):
    ranked, swapped = tmp_path / "ranked.jsonl", tmp_path / "swapped.jsonl"
    ranked.write_text(
        json.dumps({"prompt": "q", "completions": ["a", "b", "c", "d"], "scores": [1, 1, 1, 0]})
    )
    swapped.write_text(json.dumps(ROWS[0] | {"p": 0.2}))
    _, out, _ = run("inspect", ranked, "--as-trained", tiny_model_dir)
    assert "2 tied" in out
    _, out, _ = run("inspect", swapped, "--as-trained", tiny_model_dir)
    assert "1 (p < 0.5)" in out
    _, out, _ = run("inspect", ranked, "--as-trained", tiny_model_dir, "--json")
    value = json.loads(out)
    assert (value["left_out"], value["n_flipped"]) == ({"tied": 2}, 0)


def test_tools_that_are_not_json_are_refused_by_row_though_the_template_ignores_them(
    run, tmp_path, tiny_model_dir
):
    path = tmp_path / "tools.jsonl"
    path.write_text("".join(json.dumps(row | {"tools": "hammer"}) + "\n" for row in ROWS))
    for verb in (
        ["inspect", path, "--as-trained", tiny_model_dir],
        ["train", path, "--model", tiny_model_dir, "--out", tmp_path / "out"],
    ):
        code, _, err = run(*verb)
        assert code == 1
        assert f"{path}:1: tools is 'hammer'; expected JSON" in err
    assert not (tmp_path / "out").exists()


def test_a_gap_in_p_is_told(run, tmp_path, tiny_model_dir):
    path = tmp_path / "gap.csv"
    path.write_text("prompt,chosen,rejected,p\nq,a,b,0.9\nq,c,d,\n")
    code, out, _ = run("inspect", path, "--as-trained", tiny_model_dir)
    assert code == 0
    assert "1, taken as certain" in out
    _, out, _ = run("inspect", path, "--as-trained", tiny_model_dir, "--json")
    assert json.loads(out)["n_without_p"] == 1


def test_arguments_of_the_template_are_trainings(run, data, tmp_path, tiny_model_dir):
    model = shutil.copytree(tiny_model_dir, tmp_path / "model")
    template = model / "chat_template.jinja"
    template.write_text("{% if loud %}!{% endif %}" + template.read_text())
    words = ["inspect", data, "--as-trained", model, "--json", "--chat-template-kwargs"]
    code, out, _ = run(*words, '{"loud": true}')
    assert code == 0
    assert json.loads(out)["rows"][0]["prompt"].startswith("!")
    for wrong in ("[1]", "loud"):
        code, _, err = run(*words, wrong)
        assert code == 1
        assert "--chat-template-kwargs is" in err
