"""Writes tiny.gguf and tiny_gguf.json: a two-layer Llama with random weights in every supported type.

The file is written by the `gguf` package; the expected tensors are those that transformers reads from it, and the
expected token ids come from a tokenizer assembled through the `tokenizers` package.

    python tiny_gguf.py    (transformers asks for `accelerate` when it reads GGUF)
"""

import importlib.metadata
import json
import pathlib
import tempfile

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType as T
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

HERE = pathlib.Path(__file__).parent
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 32, 64, 2, 4, 2, 8
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
TEXTS = ["the in 1212 then", "<|im_start|>user\nthé <|pair|> 12<|im_end|>", "  the\n\nin’ 日本"]

special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pair|>"]
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("1", "2"), ("t", "he"), ("Ġ", "in")]
tokens = special + alphabet + [a + b for a, b in merges]
kinds = [3, 3, 3, 4] + [1] * (len(tokens) - 4)


def write(path):
    rng = np.random.default_rng(20250207)
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(LAYERS)
    w.add_context_length(128)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(100000.0)
    w.add_rope_dimension_count(HEAD_DIM)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types(kinds)
    w.add_token_merges([f"{a} {b}" for a, b in merges])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_pad_token_id(2)
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)

    def add(name, shape, kind):
        x = rng.standard_normal(shape).astype(np.float32)
        if kind == T.F32:
            w.add_tensor(name, x)
        elif kind == T.F16:
            w.add_tensor(name, x.astype(np.float16))
        else:
            w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)

    add("token_embd.weight", (len(tokens), HIDDEN), T.Q8_0)
    add("output_norm.weight", (HIDDEN,), T.F32)
    for i in range(LAYERS):
        add(f"blk.{i}.attn_norm.weight", (HIDDEN,), T.F32)
        add(f"blk.{i}.ffn_norm.weight", (HIDDEN,), T.F32)
        add(f"blk.{i}.attn_q.weight", (HEADS * HEAD_DIM, HIDDEN), T.F16)
        add(f"blk.{i}.attn_k.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.Q4_1)
        add(f"blk.{i}.attn_v.weight", (KV_HEADS * HEAD_DIM, HIDDEN), T.Q4_0)
        add(f"blk.{i}.attn_output.weight", (HIDDEN, HEADS * HEAD_DIM), T.Q5_0)
        add(f"blk.{i}.ffn_gate.weight", (INNER, HIDDEN), T.Q5_1)
        add(f"blk.{i}.ffn_up.weight", (INNER, HIDDEN), T.BF16)
        add(f"blk.{i}.ffn_down.weight", (HIDDEN, INNER), T.Q4_1)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def tokenizer():
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in special[:3]])
    t.add_tokens([AddedToken(special[3], special=False, normalized=False)])
    return t


def summary(x):
    x = x.to(torch.float32).numpy()
    flat = x.reshape(-1).astype(np.float64)
    weights = np.arange(flat.size) % 1009 + 1.0
    return {
        "shape": list(x.shape),
        "first": [float(v) for v in flat[:6]],
        "sum": float(flat.sum()),
        "weighted_sum": float((flat * weights).sum()),
    }


def main():
    write(HERE / "tiny.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(HERE, gguf_file="tiny.gguf", dtype=torch.float32)
    state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    t = tokenizer()
    out = {
        "versions": {
            "gguf": importlib.metadata.version("gguf"),
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "num_parameters": sum(v.numel() for v in state.values()),
        "texts": [{"text": x, "ids": t.encode(x).ids} for x in TEXTS],
        "tensors": {k: summary(v) for k, v in sorted(state.items())},
    }
    (HERE / "tiny_gguf.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")


main()
