"""Reads checkpoints that the test `a_saved_model_is_the_same_model` kept, with transformers, and compares the logits.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models a_saved_model_is_the_same_model
    python check_saved.py FOLDER

Also asserts that transformers finds no missing and no unexpected tensor, and that the weights are the golden ones, bit
for bit.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

TOLERANCE = 1e-5
HERE = pathlib.Path(__file__).parent
root = pathlib.Path(sys.argv[1])
for name in ["tiny-tied", "tiny-untied"]:
    model, info = LlamaForCausalLM.from_pretrained(root / name, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    golden, saved = load_file(HERE / name / "model.safetensors"), load_file(root / name / "model.safetensors")
    assert golden.keys() == saved.keys()
    assert all(torch.equal(golden[key], saved[key]) for key in golden)
    record = json.loads((root / f"{name}.json").read_text())
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([record["ids"]])).logits[0]
        original = LlamaForCausalLM.from_pretrained(HERE / name, attn_implementation="eager").eval()
        assert torch.equal(logits, original(torch.tensor([record["ids"]])).logits[0])
    deviation = (logits.flatten() - torch.tensor(record["logits"])).abs().max().item()
    print(name, "deviation of our logits", deviation)
    assert deviation <= TOLERANCE
