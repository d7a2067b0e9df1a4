"""Writes gguf/NAME.gguf, gguf/NAME.safetensors and gguf_families.json: one tiny file per architecture and rotary scaling.

    python gguf_families.py    (gguf 0.19, tokenizers, transformers)

The GGUF is written by the `gguf` package with the keys and names of llama.cpp's converter; `NAME.safetensors` holds the
source arrays under the checkpoint's names. `config` is what config.json must say. Token ids come from a tokenizer put
together with the `tokenizers` package, the rotary divisors of `llama3` from transformers.
"""

import importlib.metadata
import json
import pathlib

import gguf
import numpy as np
import transformers
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

HERE = pathlib.Path(__file__).parent
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS = 16, 24, 2, 4, 2
TEXTS = ["the then 1212", "12 345 the<|end|>", "e\u0301 t\n\nhe"]
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
special = ["<|begin|>", "<|end|>", "<|tool|>"]
alphabet = ["t", "h", "e", "n", "1", "2", "3", "4", "5", "Ġ", "Ċ", "Ã", "©", "Ì", "ģ"]
merges = [("h", "e"), ("t", "he"), ("Ġ", "the"), ("1", "2"), ("the", "n"), ("Ã", "©"), ("4", "5")]
tokens = special + alphabet + [a + b for a, b in merges]

# Name: architecture, head_dim in the file, tied, attention biases, tokenizer.ggml.pre, rope_scaling.
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LINEAR = {"rope_type": "linear", "factor": 2.5}
FILES = {
    "llama3": ("llama", 8, True, False, "llama-bpe", LLAMA3),
    "llama-linear": ("llama", None, False, False, "smollm", LINEAR),
    "qwen2": ("qwen2", None, True, True, "qwen2", None),
    "qwen3": ("qwen3", 8, False, False, "qwen2", None),
}
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def interleaved(x, heads):
    """Rows of each head in the order of llama.cpp's rotary layout: pairs side by side."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def write(name, arch, head_dim, tied, biases, pre, scaling, rng):
    dim = head_dim or HIDDEN // HEADS
    w = gguf.GGUFWriter(HERE / "gguf" / f"{name}.gguf", arch)
    w.add_block_count(LAYERS)
    w.add_context_length(131072 if scaling == LLAMA3 else 64)
    w.add_embedding_length(HIDDEN)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV_HEADS)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(500000.0)
    if head_dim:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if arch == "llama":
        w.add_rope_dimension_count(dim)
        w.add_vocab_size(len(tokens))
    if scaling == LINEAR:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(LINEAR["factor"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([3, 3, 4] + [1] * (len(tokens) - 3))
    w.add_token_merges([f"{a} {b}" for a, b in merges])
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    if arch != "llama":
        w.add_add_bos_token(False)

    source = {}

    def add(file_name, checkpoint_name, shape, heads=0):
        x = rng.standard_normal(shape).astype(np.float32)
        source[checkpoint_name] = x
        w.add_tensor(file_name, interleaved(x, heads) if heads and arch == "llama" else x)

    if scaling == LLAMA3:
        config = transformers.LlamaConfig(
            hidden_size=HIDDEN, num_attention_heads=HEADS, head_dim=head_dim, max_position_embeddings=131072,
            rope_parameters={**LLAMA3, "rope_theta": 500000.0},
        )
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        plain = 1.0 / 500000.0 ** (np.arange(0, dim, 2) / dim)
        w.add_tensor("rope_freqs.weight", (plain / scaled.numpy()).astype(np.float32))
    add("token_embd.weight", "model.embed_tokens.weight", (len(tokens), HIDDEN))
    add("output_norm.weight", "model.norm.weight", (HIDDEN,))
    if not tied:
        add("output.weight", "lm_head.weight", (len(tokens), HIDDEN))
    for i in range(LAYERS):
        at, to = f"blk.{i}.", f"model.layers.{i}."
        add(at + "attn_norm.weight", to + "input_layernorm.weight", (HIDDEN,))
        add(at + "ffn_norm.weight", to + "post_attention_layernorm.weight", (HIDDEN,))
        for short, heads in [("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)]:
            turned = 0 if short == "v" else heads
            add(f"{at}attn_{short}.weight", f"{to}self_attn.{short}_proj.weight", (heads * dim, HIDDEN), turned)
            if biases:
                add(f"{at}attn_{short}.bias", f"{to}self_attn.{short}_proj.bias", (heads * dim,), turned)
        add(at + "attn_output.weight", to + "self_attn.o_proj.weight", (HIDDEN, HEADS * dim))
        if arch == "qwen3":
            add(at + "attn_q_norm.weight", to + "self_attn.q_norm.weight", (dim,))
            add(at + "attn_k_norm.weight", to + "self_attn.k_norm.weight", (dim,))
        add(at + "ffn_gate.weight", to + "mlp.gate_proj.weight", (INNER, HIDDEN))
        add(at + "ffn_up.weight", to + "mlp.up_proj.weight", (INNER, HIDDEN))
        add(at + "ffn_down.weight", to + "mlp.down_proj.weight", (HIDDEN, INNER))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    save_file(source, HERE / "gguf" / f"{name}.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": [CLASSES[arch]], "model_type": arch, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "vocab_size": len(tokens), "max_position_embeddings": 131072 if scaling == LLAMA3 else 64,
        "rms_norm_eps": 1e-6, "rope_theta": 500000.0, "rope_scaling": scaling, "tie_word_embeddings": tied,
        "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    }
    if head_dim:
        config["head_dim"] = head_dim
    if arch != "qwen2":
        config["attention_bias"] = False
    return {"config": config, "texts": [{"text": x, "ids": tokenizer(pre).encode(x).ids} for x in TEXTS]}


def tokenizer(pre):
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=merges, ignore_merges=pre == "llama-bpe"))
    if pre == "smollm":
        cut = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    else:
        digits = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}[pre]
        words = pre_tokenizers.Split(Regex(WORDS.replace("DIGITS", digits)), "isolated")
        cut = [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    t.pre_tokenizer = pre_tokenizers.Sequence(cut)
    if pre == "qwen2":
        t.normalizer = normalizers.NFC()
    if pre == "llama-bpe":
        t.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", 0)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in special[:2]])
    t.add_tokens([AddedToken(special[2], special=False, normalized=False)])
    return t


def main():
    out = {"versions": {name: importlib.metadata.version(name) for name in ["gguf", "tokenizers", "transformers", "numpy"]}}
    out["files"] = {name: write(name, *spec, np.random.default_rng(seed)) for seed, (name, spec) in enumerate(FILES.items())}
    (HERE / "gguf_families.json").write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n")
    for name, file in out["files"].items():
        print(name, [text["ids"] for text in file["texts"]])


main()
