"""Reads checkpoints that the tests kept, with transformers, and compares weights and logits.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models every_layout_is_the_same_model
    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models a_saved_model_is_the_same_model
    python check_saved.py FOLDER    (torch 2.11, transformers 5.23)

For every folder: transformers finds no missing, unexpected or misshapen tensor; the weights are the golden ones, bit for
bit (rounded by torch where the folder stores bf16); its logits are those of the golden checkpoint in that type, bit for
bit; and the logits that our decoder recorded are close to them.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.15}  # bf16 keeps 8 bits of logits up to 6, through two layers
HERE = pathlib.Path(__file__).parent
root = pathlib.Path(sys.argv[1])


def open_model(folder, **options):
    model, info = LlamaForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True, **options
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name != "families")
assert folders, f"{root} holds no checkpoint"
for folder in folders:
    beside = [root / f"{folder.name}.record.json", root / f"{folder.name}.json"]
    record = json.loads(next(path for path in beside if path.exists()).read_text())
    golden = record.get("golden", folder.name)
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    dtype = next(iter(saved.values())).dtype
    assert index.exists() == (len(files) > 1)
    if index.exists():
        total = json.loads(index.read_text())["metadata"]["total_size"]
        assert total == sum(tensor.numel() * tensor.element_size() for tensor in saved.values())
    weights = {name: tensor.to(dtype) for name, tensor in load_file(HERE / golden / "model.safetensors").items()}
    assert weights.keys() == saved.keys() and all(torch.equal(weights[name], saved[name]) for name in weights)
    ids = torch.tensor([record["ids"]])
    with torch.inference_mode():
        model = open_model(folder)  # in the type that config.json states
        assert model.dtype == dtype, (model.dtype, dtype)
        logits = model(ids).logits[0]
        assert torch.equal(logits, open_model(HERE / golden, dtype=dtype)(ids).logits[0])
    deviation = (logits.float().flatten() - torch.tensor(record["logits"])).abs().max().item()
    largest = logits.abs().max().item()
    print(f"{folder.name}: {len(files)} file(s), {dtype}: identical logits; ours deviate by {deviation:.2e} of {largest:.1f}")
    assert deviation <= TOLERANCE[dtype]
