"""Models of a given shape with random weights, and pairs of a given length: no network is needed.

Speed and memory depend on shapes and lengths, not on what the weights have learned.

    python shapes.py SHAPE FOLDER       writes config, safetensors and tokenizer
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any

# Qwen3's published shapes; tiny is there to try the benchmark itself without a GPU.
SHAPES: dict[str, dict[str, Any]] = {
    "0.6B": {
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "8B": {
        "vocab_size": 151_936,
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
    "tiny": {
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "head_dim": 16,
        "tie_word_embeddings": True,
    },
}
# Median tokens of prompt and answer together, and prompt tokens for one of the answer
# (arXiv 2410.20305, table of data sets).
REGIMES = {"hh": (186, 2.15), "ultrafeedback": (409, 0.42), "helpsteer": (775, 6.3)}
SPREAD = 0.5  # standard deviation of the logarithm of a length
LONGEST = 2048
SPECIAL = ["<pad>", "<end>", "<system>", "<user>", "<assistant>"]
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end> "
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


def write_model(shape: str, folder: Path, *, seed: int = 0) -> None:
    """A Qwen3 with random bf16 weights and a tokenizer of one token a word, as a model folder."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = word_tokenizer(SHAPES[shape]["vocab_size"])
    config = Qwen3Config(
        **{"head_dim": 128, "num_key_value_heads": 8, **SHAPES[shape]},
        max_position_embeddings=40_960,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="bfloat16",
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def word_tokenizer(vocabulary: int) -> Any:
    """A tokenizer of the words w0, w1, …: as many tokens as words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = SPECIAL + [f"w{i}" for i in range(vocabulary - len(SPECIAL))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=SPECIAL[2:],
        chat_template=TEMPLATE,
    )


def made_up_pairs(regime: str, n: int, vocabulary: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` pairs of random words whose lengths are spread about the medians of ``regime``."""
    total, ratio = REGIMES[regime]
    answer = total / (1 + ratio)
    rng = random.Random(seed)

    def text(median: float, most: int) -> str:
        length = min(most, max(4, round(math.exp(rng.gauss(math.log(median), SPREAD)))))
        return " ".join(f"w{rng.randrange(vocabulary - len(SPECIAL))}" for _ in range(length))

    def message(role: str, median: float) -> list[dict[str, str]]:
        return [{"role": role, "content": text(median, LONGEST // 2)}]

    return [
        {
            "prompt": message("user", total - answer),
            "chosen": message("assistant", answer),
            "rejected": message("assistant", answer),
        }
        for _ in range(n)
    ]


if __name__ == "__main__":
    write_model(sys.argv[1], Path(sys.argv[2]))
