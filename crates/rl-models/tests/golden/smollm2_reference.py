"""Writes smollm2_reference.json: what transformers computes with the converted SmolLM2-135M-Instruct checkpoint.

    cargo run --release -p rl-examples --example convert -- --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out FOLDER
    python smollm2_reference.py FOLDER

f32 on the CPU, one sequence at a time, no padding, eager attention. `greedy`: per prompt the text, the token ids after
the chat template, and the first 48 greedy tokens (up to and with the end token), with the smallest gap between the best
and the second-best logit along the way: an implementation whose rounding differs by less must agree.
`logits`: for one prompt and its answer, at every position `log_sum_exp` over the whole vocabulary, the eight largest
logits (`top_ids`, `top_logits`, largest first), and the logits of the 24 `fixed_ids`.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 48
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 12 + 30? Answer with the number only.",
    "List three primary colours.",
    "Translate 'good morning' into Spanish — only the words, please. 日本",
]
FIXED_IDS = [0, 1, 2, 3, 16, 17, 28, 33, 100, 198, 216, 253, 260, 418, 1000, 2500, 5000, 9999, 15000, 20000, 30000,
             40000, 49000, 49151]


def floats(x):
    """Numbers that read back as the same f32."""
    return [float(f"{v:.9g}") for v in x.tolist()]


@torch.inference_mode()
def main(folder):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    end = set(tokenizer.convert_tokens_to_ids(["<|im_end|>"]))
    greedy = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids, gap = list(prompt), float("inf")
        while len(ids) - len(prompt) < NEW_TOKENS:
            best = model(torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
            gap = min(gap, float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
            if ids[-1] in end:
                break
        response = ids[len(prompt) :]
        by_generate = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False, max_new_tokens=NEW_TOKENS,
        )[0, len(prompt) :].tolist()
        assert by_generate == response, (by_generate, response)
        greedy.append({
            "messages": messages, "prompt": text, "prompt_ids": prompt, "response_ids": response,
            "response": tokenizer.decode(response), "smallest_gap": gap,
        })
        print(repr(tokenizer.decode(response)), gap)
    ids = greedy[0]["prompt_ids"] + greedy[0]["response_ids"]
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    positions = []
    for row in logits:
        top = row.topk(8)
        positions.append({
            "log_sum_exp": float(row.double().logsumexp(0)),
            "top_ids": top.indices.tolist(),
            "top_logits": floats(top.values),
            "fixed_logits": floats(row[FIXED_IDS]),
        })
    out = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "dtype": "float32",
        "attention": "eager",
        "greedy": greedy,
        "logits": {"ids": ids, "fixed_ids": FIXED_IDS, "positions": positions},
    }
    target = pathlib.Path(__file__).with_name("smollm2_reference.json")
    target.write_text(json.dumps(out, ensure_ascii=False) + "\n")


main(sys.argv[1])
