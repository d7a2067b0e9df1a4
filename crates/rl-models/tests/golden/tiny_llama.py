"""Writes tiny-tied/, tiny-untied/ and tiny_llama.json: two random Llama checkpoints and what transformers computes with them.

    python tiny_llama.py

f32 on the CPU, eager attention, no padding. The two differ in everything the family may vary: tied or own output
head, biases, head width, rotary base. Norm weights are random too, so that a forgotten one shows. Per model: `logits`
of `ids` at every position `[seq, vocab]`, `greedy` the continuation of each prompt by the best token, with the smallest
gap to the second best along the way.
"""

import json
import pathlib

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
NEW_TOKENS = 16
COMMON = dict(
    vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, attn_implementation="eager",
)
MODELS = {
    "tiny-tied": dict(tie_word_embeddings=True, rms_norm_eps=1e-5, rope_theta=10000.0),
    "tiny-untied": dict(tie_word_embeddings=False, rms_norm_eps=1e-3, rope_theta=500.0, head_dim=8,
                        attention_bias=True, mlp_bias=True),
}


@torch.inference_mode()
def main():
    out = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "models": {}}
    for seed, (name, differences) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**COMMON, **differences)).float().eval()
        for key, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.3 * noise if "norm" in key else 0.25 * noise)
        model.save_pretrained(HERE / name)
        (HERE / name / "generation_config.json").unlink(missing_ok=True)
        ids = torch.randint(3, 64, (20,), generator=generator)
        greedy = []
        for length in (1, 4, 7):
            prompt = torch.randint(3, 64, (length,), generator=generator).tolist()
            row, gap = list(prompt), float("inf")
            for _ in range(NEW_TOKENS):
                best = model(torch.tensor([row]), use_cache=False).logits[0, -1].topk(2)
                gap = min(gap, float(best.values[0] - best.values[1]))
                row.append(int(best.indices[0]))
            greedy.append({"prompt_ids": prompt, "response_ids": row[length:], "smallest_gap": gap})
        logits = model(ids[None], use_cache=False).logits[0]
        out["models"][name] = {
            "num_parameters": sum(p.numel() for p in model.parameters()),
            "ids": ids.tolist(),
            "logits": [[float(f"{x:.9g}") for x in row] for row in logits.tolist()],
            "greedy": greedy,
        }
        print(name, [g["smallest_gap"] for g in greedy], float(logits.abs().max()))
    (HERE / "tiny_llama.json").write_text(json.dumps(out) + "\n")


main()
