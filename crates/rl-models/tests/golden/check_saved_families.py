"""Reads the tiny checkpoints of every family and option that the tests saved, with transformers, and compares configuration
and logits.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models saved
    python check_saved_families.py FOLDER    (torch 2.11, transformers 5.23)
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-5
HERE = pathlib.Path(__file__).parent
root = pathlib.Path(sys.argv[1])
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
