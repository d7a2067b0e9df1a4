"""Writes families.json and families.safetensors: what transformers computes with a tiny checkpoint of every family and option.

    python families.py

f32 on the CPU unless a case says otherwise, eager attention, no padding, no cache. The weights need no file: number `i`
of a tensor, row-major, is a function of `i` and of the tensor's place in the sorted list of names, which the Rust tests
compute too (`weight` below). Per case:

- `config`: the `config.json` as transformers writes it;
- `ids` and, in the safetensors file, `CASE.logits` of them at every position `[seq, vocab]`;
- `sequences`: three more sequences; `CASE.packed_logits` of each by itself, one after the other `[tokens, vocab]`;
- `greedy`: the best tokens after the first sequence, decoded with transformers' own cache, and the smallest gap between
  best and second best along the way;
- `gradients`: of the mean negative log-likelihood of all next tokens of the three sequences, in f64: per tensor its
  norm, and its numbers at `positions` spread over it;
- `CASE.bf16_logits`: of `ids`, from the same weights cast to bf16, with sdpa attention, which
  rounds as ours does; `bf16_rounding` is their distance from `logits`.

`rotary.TYPE.cos`, `.sin` `[positions, head_dim]`: far past the original context, per rotary type.
"""

import json
import pathlib

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB, SEQ, NEW_TOKENS, GRADIENT_ENTRIES = 61, 40, 24, 8
LENGTHS = (9, 22, 4)
COMMON = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
    tie_word_embeddings=True,
)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16, rope_theta=10000.0)
WINDOWS = dict(use_sliding_window=True, sliding_window=7, max_window_layers=1, num_hidden_layers=3)
LISTED = dict(use_sliding_window=True, sliding_window=5, num_hidden_layers=3,
              layer_types=["sliding_attention", "full_attention", "sliding_attention"])
CASES = {
    "llama-plain": ("llama", dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "llama-grouped-query-tied": ("llama", dict(rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
    "llama-one-key-head": ("llama", dict(num_key_value_heads=1)),
    "llama-untied": ("llama", dict(tie_word_embeddings=False)),
    "llama-head-dim": ("llama", dict(head_dim=14)),
    "llama-attention-bias": ("llama", dict(attention_bias=True)),
    "llama-mlp-bias": ("llama", dict(mlp_bias=True)),
    "llama-linear-rope": ("llama", dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0),
                                        max_position_embeddings=16)),
    "llama3-rope": ("llama", dict(rope_parameters=LLAMA3)),
    "qwen2": ("qwen2", dict(rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen2-untied": ("qwen2", dict(tie_word_embeddings=False)),
    "qwen2-sliding-window": ("qwen2", WINDOWS),
    "qwen2-layer-types": ("qwen2", LISTED),
    "qwen3": ("qwen3", dict(head_dim=16)),
    "qwen3-attention-bias": ("qwen3", dict(head_dim=16, attention_bias=True, tie_word_embeddings=False)),
    "qwen3-sliding-window": ("qwen3", dict(head_dim=16, **WINDOWS)),
}
WITH_BF16 = ("llama-grouped-query-tied", "llama3-rope", "qwen2", "qwen2-sliding-window", "qwen3")
WITH_GRADIENTS = ("llama-grouped-query-tied", "llama-untied", "llama3-rope", "qwen2", "qwen2-sliding-window", "qwen3")


def weight(index, name, shape):
    """Numbers in [-1, 1) from a 64-bit mixer, times 0.35; norms lie around 1. All arithmetic is exact until the last cast."""
    with np.errstate(over="ignore"):
        x = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x += np.uint64(index) * np.uint64(0xD1B54A32D192ED03)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    numbers = (x >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0
    numbers = 1 + 0.5 * numbers if name.endswith("norm.weight") else 0.35 * numbers
    return torch.from_numpy(numbers.astype(np.float32).reshape(shape))


def build(family, differences, dtype, attention="eager"):
    config = AutoConfig.for_model(family, **{**COMMON, **differences})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for index, name in enumerate(sorted(parameters)):
            parameters[name].copy_(weight(index, name, tuple(parameters[name].shape)))
    inv_freq = model.model.rotary_emb.inv_freq.clone()
    model = model.to(dtype)
    model.model.rotary_emb.inv_freq = inv_freq  # f32 whatever the weights are, as `from_pretrained` leaves it
    return model, config


def ids_of(case, row, length):
    return [(case * 13 + row * 31 + p * 17 + p * p * 7) % (VOCAB - 3) + 3 for p in range(length)]


def greedy(model, prompt):
    row, gap = list(prompt), float("inf")
    cache, step = None, prompt
    for _ in range(NEW_TOKENS):
        out = model(torch.tensor([step]), past_key_values=cache, use_cache=True)
        cache, best = out.past_key_values, out.logits[0, -1].topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        step = [int(best.indices[0])]
        row += step
    with_cache = row[len(prompt):]
    again = model(torch.tensor([row[:-1]]), use_cache=False).logits[0, len(prompt) - 1:].argmax(-1).tolist()
    assert again == with_cache, "transformers with and without its cache"
    return {"prompt_ids": prompt, "response_ids": with_cache, "smallest_gap": gap}


def gradients(family, differences, sequences):
    model, _ = build(family, differences, torch.float64)
    losses = []
    for ids in sequences:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, :-1].double()
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
    labels = sum(len(ids) - 1 for ids in sequences)
    loss = sum(losses) / labels
    loss.backward()
    tensors = {}
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.grad.flatten()
        positions = np.unique(np.linspace(0, flat.numel() - 1, GRADIENT_ENTRIES).astype(int)).tolist()
        tensors[name] = {"norm": float(flat.norm()), "positions": positions, "values": flat[positions].tolist()}
    return {"loss": loss.item(), "tensors": tensors}


def rotary(tensors):
    kinds = {
        "default": {},
        "linear": dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0)),
        "llama3": dict(rope_parameters=dict(LLAMA3, original_max_position_embeddings=8192, rope_theta=500000.0)),
    }
    positions = [0, 1, 127, 8191, 8192, 40000, 131071]
    rows = {}
    for name, differences in kinds.items():
        model, config = build("llama", dict(differences, head_dim=64, max_position_embeddings=131072), torch.float32)
        cos, sin = model.model.rotary_emb(torch.zeros(1), torch.tensor([positions]))
        rows[name] = {"config": config.to_dict(), "positions": positions}
        tensors[f"rotary.{name}.cos"], tensors[f"rotary.{name}.sin"] = cos[0].clone(), sin[0].clone()
    return rows


def main():
    cases, tensors = {}, {}
    for case, (name, (family, differences)) in enumerate(CASES.items()):
        model, config = build(family, differences, torch.float32)
        ids = ids_of(case, 9, SEQ)
        sequences = [ids_of(case, row, length) for row, length in enumerate(LENGTHS)]
        with torch.inference_mode():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
            apart = [model(torch.tensor([s]), use_cache=False).logits[0] for s in sequences]
            decoded = greedy(model, sequences[0])
        cases[name] = {
            "config": config.to_dict(),
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "ids": ids, "sequences": sequences, "greedy": decoded,
        }
        tensors[f"{name}.logits"], tensors[f"{name}.packed_logits"] = logits, torch.cat(apart)
        if name in WITH_BF16:
            half, _ = build(family, differences, torch.bfloat16, "sdpa")
            with torch.inference_mode():
                bf16 = half(torch.tensor([ids]), use_cache=False).logits[0]
            tensors[f"{name}.bf16_logits"] = bf16
            # How far bf16 is from f32 in transformers itself: the measure for any tolerance on bf16.
            apart = (bf16.float() - logits).abs()
            cases[name]["bf16_rounding"] = {"mean": apart.mean().item(), "max": apart.max().item()}
        if name in WITH_GRADIENTS:
            cases[name]["gradients"] = gradients(family, differences, sequences)
        print(f"{name:28} logits to {float(logits.abs().max()):.2f}, smallest gap {decoded['smallest_gap']:.4f}",
              cases[name].get("bf16_rounding", ""))
    out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__},
           "cases": cases, "rotary": rotary(tensors)}
    target = pathlib.Path(__file__).with_name("families.json")
    target.write_text(json.dumps(out) + "\n")
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, target.with_suffix(".safetensors"))


main()
