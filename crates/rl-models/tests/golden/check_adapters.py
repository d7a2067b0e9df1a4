"""Reads adapters and reward models that the test `saved_adapters_and_reward_models_are_the_same_again` kept, with PEFT
and transformers, and compares logits and scores.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-models saved_adapters_and_reward_models
    python check_adapters.py FOLDER        (torch 2.11, transformers 5.23, peft 0.21)
"""

import json
import pathlib
import sys
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM

TOLERANCE = 3e-5
HERE = pathlib.Path(__file__).parent
root = pathlib.Path(sys.argv[1])
# PEFT says missing and unexpected adapter keys as warnings.
warnings.filterwarnings("error", category=UserWarning)
for name in ["tiny-tied", "tiny-untied"]:
    record = json.loads((root / f"lora-{name}.json").read_text())
    base = LlamaForCausalLM.from_pretrained(HERE / name, attn_implementation="eager").eval()
    with torch.inference_mode():
        plain = base(torch.tensor([record["ids"]])).logits[0]
        model = PeftModel.from_pretrained(base, root / f"lora-{name}").eval()
        logits = model(torch.tensor([record["ids"]])).logits[0]
    expected = torch.tensor(record["logits"])
    deviation = (logits.flatten() - expected).abs().max().item()
    print(name, "deviation of our adapter's logits", deviation, "without it", (plain - logits).abs().max().item())
    assert deviation <= TOLERANCE < (plain - logits).abs().max()

    record = json.loads((root / f"reward-{name}.json").read_text())
    model, info = AutoModelForSequenceClassification.from_pretrained(
        root / f"reward-{name}", attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    assert type(model).__name__ == "LlamaForSequenceClassification" and model.config.num_labels == 1
    with torch.inference_mode():
        scores = [model.eval()(torch.tensor([ids])).logits[0, 0].item() for ids in record["sequences"]]
    deviation = max(abs(a - b) for a, b in zip(scores, record["scores"]))
    print(name, "deviation of our reward model's scores", deviation, "of", scores)
    assert deviation <= TOLERANCE
