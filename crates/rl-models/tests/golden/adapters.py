"""Writes the references of gradients, LoRA adapters and the reward head from the tiny checkpoints of tiny_llama.py.

    python adapters.py        (torch 2.11, transformers 5.23, peft 0.21, safetensors)

`gradients-NAME.safetensors`: gradients of the summed next-token log-probabilities of three sequences, by parameter.
`lora-NAME/`: an adapter with random A and B as PEFT saves it, and `record.safetensors` with logits of one sequence and
the gradients of every A and B for the same sum. `tiny-reward/`: a sequence-classification checkpoint.
`adapters.json`: sequences, scores, versions.
"""

import json
import pathlib

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

HERE = pathlib.Path(__file__).parent
ADAPTERS = {
    "tiny-tied": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "tiny-untied": dict(r=3, lora_alpha=5, target_modules="all-linear", use_rslora=True),
}
SEQUENCES = [[(5 * i + 3 * row + i * i) % 64 for i in range(length)] for row, length in enumerate((12, 5, 9))]


def summed_log_probs(model):
    total = 0.0
    for ids in SEQUENCES:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        total = total + logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).sum()
    return total


def load(name, kind=LlamaForCausalLM, **more):
    return kind.from_pretrained(HERE / name, attn_implementation="eager", **more).float().eval()


def main():
    out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                        "peft": peft.__version__}, "sequences": SEQUENCES}
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        model = load(name)
        summed_log_probs(model).backward()
        save_file({key: p.grad for key, p in model.named_parameters()}, HERE / f"gradients-{name}.safetensors")

        generator = torch.Generator().manual_seed(seed)
        model = get_peft_model(load(name), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings)).eval()
        trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for p in trained.values():
                p.copy_(0.2 * torch.randn(p.shape, generator=generator))
        folder = HERE / f"lora-{name}"
        # The path of the base is this machine's; readers need the name only.
        model.peft_config["default"].base_model_name_or_path = name
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        record = {}
        with torch.inference_mode():
            record["logits"] = model(torch.tensor([SEQUENCES[0]]), use_cache=False).logits[0].clone()
        summed_log_probs(model).backward()
        record |= {key.replace(".default", ""): p.grad for key, p in trained.items()}
        save_file(record, folder / "record.safetensors")

    model = load("tiny-untied", LlamaForSequenceClassification, num_labels=1)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        model.score.weight.copy_(0.5 * torch.randn(model.score.weight.shape, generator=generator))
    model.save_pretrained(HERE / "tiny-reward")
    with torch.inference_mode():
        out["scores"] = [model(torch.tensor([ids])).logits[0, 0].item() for ids in SEQUENCES]
    (HERE / "adapters.json").write_text(json.dumps(out) + "\n")
    print(out["scores"])


main()
