"""What lies beside the weights, and what a disk that fills up leaves behind."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import HEAD, chosen, left, loaded, trained, trained_folder
from huggingface_hub import ModelCard

from prefkit.core.errors import EnvironmentFault
from prefkit.core.files import clear_leftovers, read_json
from prefkit.core.records import Example, Message, Prompt, TrainRow
from prefkit.training import TrainSettings, train
from prefkit.training.adapter import prepare_model
from prefkit.training.lineage import data_facts
from prefkit.training.rows import read_rows


def judged(text, votes, **evidence):
    prompt = Prompt.make([Message.of("user", text)], source="quiz")
    sides = [Message.of("assistant", "yes")], [Message.of("assistant", "no")]
    example, _ = Example.make(
        prompt, *sides, p=0.8, votes=json.dumps(votes), evidence=json.dumps(evidence)
    )
    return TrainRow.of(example)


ROWS = [
    judged(
        "one?",
        [
            {"id": "1", "rater": "ann", "kind": "human", "choice": "a"},
            {"rater": "bob", "kind": "human", "choice": "a"},
            {"rater": "judge-x", "kind": "judge", "p_a": 0.7},
        ],
        method="vote_share",
        version="1",
        model_chosen="d1",
    ),
    judged(
        "two?",
        [{"rater": "ann", "kind": "human", "choice": "b"}],
        method="vote_share",
        version="1",
        model_chosen="d2",
    ),
]


def test_raters_are_counted_once_people_not_named_and_machines_named():
    facts = data_facts(ROWS)
    assert facts["n_votes"] == {"human": 3, "judge": 1}
    assert facts["raters"] == {"human": 2, "judge": 1}
    assert facts["judges"] == ["judge-x"]
    assert facts["methods"] == {"vote_share 1": 2}
    assert facts["answers"] == {"d1": 1, "d2": 1}
    assert facts["sources"] == {"quiz": 2}
    assert (facts["n_rows"], facts["n_prompts"], facts["n_soft"]) == (2, 2, 2)
    assert not {"ann", "bob"} & set(json.dumps(facts).split('"'))


def test_a_vote_that_two_rows_carry_counts_once():
    """Known by its id; without one, null or none, each counts."""
    both = data_facts([ROWS[0], ROWS[0]])
    assert both["raters"] == {"human": 2, "judge": 1}
    assert both["n_votes"] == {"human": 3, "judge": 2}  # of these three, one has an id
    nameless = [{"id": None, "rater": who, "kind": "human", "choice": "a"} for who in "xy"]
    assert data_facts([judged("three?", nameless)])["n_votes"] == {"human": 2}
    odd = [{"id": {}, "choice": "a"}, {"id": {}, "choice": "a"}]
    assert data_facts([judged("four?", odd)])["n_votes"] == {"human": 1}


def test_only_machines_are_named_whatever_kind_a_vote_claims():
    votes = [
        {"rater": "ann@corp.org", "kind": "annotator", "choice": "a"},
        {"rater": "bob", "kind": ["x"], "choice": "a"},
        {"rater": "rm", "kind": "reward", "p_a": 0.7},
        {"rater": "length", "kind": "rule", "choice": "b"},
    ]
    facts = data_facts([judged("one?", votes)])
    assert facts["judges"] == ["length", "rm"]
    assert facts["n_votes"] == {"other": 2, "reward": 1, "rule": 1}
    assert facts["raters"] == {"other": 2, "reward": 1, "rule": 1}
    assert not {"ann@corp.org", "annotator", "bob"} & set(json.dumps(facts).split('"'))


def test_a_pair_that_became_two_answers_counts_once():
    """Read for kto: the lineage of its votes is that of the pairs; the same pair twice is two."""
    rows = read_rows([*ROWS, ROWS[1]], "unpaired").rows
    assert len(rows) == 6
    facts, pairs = data_facts(rows), data_facts([*ROWS, ROWS[1]])
    told = ("n_votes", "raters", "judges", "methods", "answers")
    assert {name: facts[name] for name in told} == {name: pairs[name] for name in told}
    assert facts["n_votes"] == {"human": 4, "judge": 1}
    rejected = data_facts([rows[1]])
    assert (rejected["n_votes"], rejected["answers"]) == ({"human": 2, "judge": 1}, {})


def test_the_card_of_kto_is_of_the_answers_it_trained_on(tiny_model_dir, tmp_path):
    """A row too long is counted as dropped, and what was voted on it is not told."""
    long = judged("long? " * 400, [{"rater": "eve", "kind": "human", "choice": "a"}])
    settings = TrainSettings(
        loss="kto", max_steps=1, max_length=200, device="cpu", trackers=[], reference_store="none",
        overlong="drop",
    )  # fmt: skip
    result = train(str(tiny_model_dir), [*ROWS, long], settings, out=tmp_path)
    facts = read_json(result.folder / "prefkit.json")["data"]
    assert (facts["n_rows"], facts["n_prompts"], facts["dropped"]) == (4, 2, {"overlong": 1})
    assert facts["n_votes"] == {"human": 3, "judge": 1}
    assert "human: 3 votes of 2 raters" in (result.folder / "README.md").read_text()


def test_the_card_tells_the_lineage_and_the_hub_can_read_it(tiny_model_dir, tmp_path):
    policy, settings = loaded(tiny_model_dir), chosen("lora")
    model = prepare_model(policy, settings, None, seed=3)
    folder = left(model, policy, settings, trained(model), tmp_path, rows=ROWS)
    text = (folder / "README.md").read_text()
    assert "human: 3 votes of 2 raters" in text
    assert "`judge-x`" in text
    assert "vote_share 1 (2)" in text
    assert policy.source.digest in text
    card = ModelCard(text)
    assert card.data.library_name == "peft"
    assert set(card.data.tags) == {"prefkit", "preference-learning", "lora"}
    facts = read_json(folder / "prefkit.json")
    assert facts["base"]["digest"] == policy.source.digest
    assert facts["settings"]["lora"]["r"] == 4


def test_a_card_offers_vllm_what_vllm_serves(tiny_model_dir, tmp_path):
    """A head is merged first; the rank is that of the adapter, whatever the settings now say."""
    head, _ = trained_folder(tiny_model_dir, "lora", tmp_path / "head", lora={"targets": HEAD})
    card = (head / "README.md").read_text()
    assert "`prefkit merge PATH_OF_THIS_FOLDER --out DIR` writes a model that vLLM serves." in card
    assert "LoRARequest" not in card
    policy, settings = loaded(tiny_model_dir), chosen("lora", lora={"r": 100})
    first = left(
        prepare_model(policy, settings, None, seed=3), policy, settings, {}, tmp_path / "first"
    )
    assert "max_lora_rank=128" in (first / "README.md").read_text()
    policy, settings = loaded(tiny_model_dir), chosen("lora")
    again = prepare_model(policy, settings, first, seed=3)
    further = left(again, policy, settings, {}, tmp_path / "further")
    assert "max_lora_rank=128" in (further / "README.md").read_text()
    assert read_json(further / "prefkit.json")["adapter_rank"] == 100


def test_rows_without_votes_say_so(tiny_model_dir, tmp_path):
    folder, _ = trained_folder(tiny_model_dir, "full", tmp_path)
    text = (folder / "README.md").read_text()
    assert "the rows carry no votes" in text
    assert ModelCard(text).data.library_name == "transformers"


@pytest.mark.parametrize(
    ("method", "name", "limit"),
    [("lora", "adapter", 8_000), ("full", "model", 8_000), ("full", "model", 60_000)],
    ids=["adapter weights", "tokenizer", "model weights"],
)
def test_a_file_that_may_not_be_written_is_named_and_the_earlier_result_stays(
    method, name, limit, tiny_model_dir, tmp_path
):
    """safetensors and tokenizers write in Rust: their faults are no OSError."""
    policy, settings = loaded(tiny_model_dir), chosen(method)
    model = prepare_model(policy, settings, None, seed=3)
    weights = trained(model, steps=1)
    (tmp_path / name).mkdir()
    (tmp_path / name / "earlier").write_text("whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(EnvironmentFault, match="may not hold a file of that size") as caught:
            left(model, policy, settings, weights, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path / name) in caught.value.message
    assert [p.name for p in tmp_path.rglob("*")] == [name, "earlier"]


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from adapters import HEAD, chosen, left, loaded, trained
from prefkit.core.errors import PrefkitError
from prefkit.training.adapter import prepare_model
model_dir, out, method = sys.argv[2:]
policy, settings = loaded(model_dir), chosen(method)
model = prepare_model(policy, settings, None, seed=3)
try:
    left(model, policy, settings, trained(model, steps=1), Path(out))
except PrefkitError as error:
    print(error.message, "|", error.hint)
    sys.exit(1)
"""
TESTS = Path(__file__).resolve().parents[1]
MOUNT = 'mount -t tmpfs -o size=$1 tmpfs "$2" && mkdir "$2/$3" && shift 3 && exec "$@"'
# Lists what is on the small disk when the child has ended: it is gone with the mount.
RUN = 'out=$1; shift; "$@"; code=$?; ls -A "$out" >&2; exit $code'


def test_a_full_disk_is_named_and_nothing_half_written_stays(tiny_model_dir, tmp_path):
    """98304 bytes hold the tokenizer and not the weights."""
    alone, disk = ["unshare", "-rm"], tmp_path / "disk"
    disk.mkdir()
    small = [*alone, "mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if shutil.which("unshare") is None or subprocess.run(small, check=False).returncode:
        pytest.skip("this system lets no test mount a small disk")
    child = [sys.executable, "-c", CHILD, str(TESTS), str(tiny_model_dir), str(disk), "full"]
    listed = ["sh", "-c", RUN, "sh", str(disk), *child]
    command = [*alone, "sh", "-c", MOUNT, "sh", "98304", str(disk), "model", *listed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"{disk / 'model'}: the disk is full" in done.stdout
    assert "run the same command again" in done.stdout
    assert done.stderr.split()[-1:] == ["model"]
    assert ".tmp-" not in done.stderr


def test_what_a_kill_left_is_cleared(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"adapter.tmp-{ended.pid}", f"model.tmp-{ended.pid}-earlier"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("half")
    (tmp_path / "adapter").mkdir()
    clear_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
