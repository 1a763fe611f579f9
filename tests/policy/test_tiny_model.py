from tiny_model import build_tiny_model


def test_tiny_model_is_the_same_twice_and_chats(tiny_model_dir, tmp_path):
    from transformers import AutoTokenizer

    again = build_tiny_model(tmp_path / "again")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (tiny_model_dir / name).read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hé"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>\ns<|end|>\n<|user|>\nhé<|end|>\n<|assistant|>\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert 350 <= len(tokenizer) <= 450
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
