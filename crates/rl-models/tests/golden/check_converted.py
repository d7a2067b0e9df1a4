"""Opens folders that the test `every_architecture_equals_its_source` kept, with transformers.

    REINS_KEEP_CONVERTED=FOLDER cargo test -p rl-models every_architecture_equals_its_source
    python check_converted.py FOLDER    (torch 2.11, transformers 5.23)

For every folder: transformers finds each tensor, and its logits past the original context are, bit for bit, those of a
model made from the configuration in gguf_families.json and the source arrays; so are the token ids of its tokenizer.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
root = pathlib.Path(sys.argv[1])
files = json.loads((HERE / "gguf_families.json").read_text())["files"]
for name, expected in files.items():
    folder = root / name
    options = dict(attn_implementation="eager", dtype=torch.float32)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    fields = {key: value for key, value in expected["config"].items() if value is not None}
    source = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields), **options)
    source.load_state_dict(load_file(HERE / "gguf" / f"{name}.safetensors"), strict=not fields["tie_word_embeddings"])
    source.tie_weights()
    ids = torch.randint(0, fields["vocab_size"], (1, 100), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.eval()(ids).logits, source.eval()(ids).logits), name
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in expected["texts"]:
        assert tokenizer(text["text"])["input_ids"] == text["ids"], (name, text)
    print(f"{name}: {type(model).__name__}, rope {model.config.rope_parameters}: identical logits and ids")
