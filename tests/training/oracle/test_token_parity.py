"""The same rows through TRL 1.16's ``_prepare_dataset`` and ours: equal ids, or a difference that
is meant and listed in token_differences.json with its kind. Both directions are held: a difference
that is not listed fails, and so does a listed one that is no longer there.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from chat_tokenizers import FAMILIES, chat_tokenizer

from prefkit.training.rows import encode_rows, read_rows

LISTED = json.loads((Path(__file__).parent / "token_differences.json").read_text())


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


ASKED = [user("What is the sea?")]
ROWS = {
    "standard": {"prompt": "The sea is", "chosen": " blue.", "rejected": " the sun."},
    "standard, no space": {"prompt": "The sea is ", "chosen": "blue.", "rejected": "the sun."},
    "standard, implicit": {"chosen": "The sea is blue.", "rejected": "The sea is the sun."},
    "conversational": {"prompt": ASKED, "chosen": [bot("Blue.")], "rejected": [bot("The sun.")]},
    "conversational, implicit": {
        "chosen": [*ASKED, bot("Blue.")],
        "rejected": [*ASKED, bot("The sun.")],
    },
    "system": {
        "prompt": [{"role": "system", "content": "Be kind."}, *ASKED],
        "chosen": [bot("Blue.")],
        "rejected": [bot("The sun.")],
    },
    "later turn": {
        "prompt": [*ASKED, bot("Water."), user("Which colour?")],
        "chosen": [bot("Blue.")],
        "rejected": [bot("The sun.")],
    },
    "several turns": {
        "prompt": ASKED,
        "chosen": [bot("Blue."), user("Why?"), bot("The sun.")],
        "rejected": [bot("The moon.")],
    },
    "tools": {
        "prompt": ASKED,
        "chosen": [bot("Blue.")],
        "rejected": [bot("The sun.")],
        "tools": '[{"name": "colour", "parameters": {"of": {"type": "string"}}}]',
    },
    "chat_template_kwargs": {
        "prompt": ASKED,
        "chosen": [bot("Blue.")],
        "rejected": [bot("The sun.")],
        "chat_template_kwargs": {"enable_thinking": False},
    },
}
CASES = [
    (family, name)
    for family in FAMILIES
    for name in ROWS
    if not (family == "gemma" and name == "system")  # its template takes no system turn
]


def theirs(tokenizer, row):
    """TRL's prompt and completion ids of both sides."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOTrainer

    args = SimpleNamespace(dataset_num_proc=None, max_length=None, truncation_mode="keep_start")
    trainer = SimpleNamespace(_tokenizer=tokenizer)
    data = Dataset.from_list([row])
    [found] = DPOTrainer._prepare_dataset(trainer, data, tokenizer, args, "train")
    return found["prompt_ids"], [found["chosen_ids"], found["rejected_ids"]]


def ours(tokenizer, row):
    """Our prompt ids, and the ids and masks of both branches."""
    chat = not isinstance(row.get("prompt", row["chosen"]), str)
    encoded = encode_rows(tokenizer, read_rows([row], "pair").rows, max_length=10**6, chat=chat)
    tree = encoded.rows[0].tree
    branches = [(branch.ids.tolist(), branch.scored.tolist()) for branch in tree.branches]
    return tree.prompt.tolist(), branches


def kinds(tokenizer, their_prompt, their_sides, prompt, branches):
    """In what respects the two differ, each checked to be that and nothing more."""
    found = set()
    for side, (ids, scored) in zip(their_sides, branches, strict=True):
        whole, mine = [*their_prompt, *side], [*prompt, *ids]
        mask = [False] * len(prompt) + scored
        if mine == [*whole, tokenizer.eos_token_id]:
            found.add("end of text added")
        elif mine == whole[: len(mine)]:
            if len(whole) > len(mine):
                found.add("nothing after the end of turn")
        elif tokenizer.decode(mine) == tokenizer.decode(whole)[: len(tokenizer.decode(mine))]:
            found.add("border between prompt and answer is a border of tokens")
        else:
            found.add("other text")
        started = mask.index(True)
        if False in mask[started:]:
            found.add("user turns are not scored")
        if started != len(their_prompt):
            found.add("scored from another token on")
    return sorted(found)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_ids_are_trls_or_the_difference_is_meant(trl, family, name):
    tokenizer = chat_tokenizer(family)
    found = kinds(tokenizer, *theirs(tokenizer, ROWS[name]), *ours(tokenizer, ROWS[name]))
    meant = [
        entry["difference"]
        for entry in LISTED
        if family in entry["families"] and name in entry["rows"]
    ]
    assert found == sorted(meant)
