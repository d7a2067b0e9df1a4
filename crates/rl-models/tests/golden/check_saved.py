"""Reads checkpoints that the tests on saved models kept, with transformers, and compares the logits.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models saved
    python check_saved.py FOLDER

Also asserts that transformers finds no missing and no unexpected tensor, and that the weights are the golden ones, bit
for bit.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

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

cases = json.loads((HERE / "families.json").read_text())["cases"]
recorded = load_file(HERE / "families.safetensors")
folders = sorted((root / "families").iterdir())
assert [folder.name for folder in folders] == sorted(cases), "every case was saved"
for folder in folders:
    case = cases[folder.name]
    model, info = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    written, original = model.config.to_dict(), AutoConfig.for_model(**case["config"]).to_dict()
    ignored = {"_name_or_path", "dtype", "transformers_version", "torch_dtype", "architectures"}
    assert {k: v for k, v in written.items() if k not in ignored} == {k: v for k, v in original.items() if k not in ignored}
    with torch.inference_mode():
        logits = model.eval()(torch.tensor([case["ids"]])).logits[0]
    deviation = (logits - recorded[f"{folder.name}.logits"]).abs().max().item()
    print(folder.name, "deviation of the saved model in transformers", deviation)
    assert deviation <= TOLERANCE
