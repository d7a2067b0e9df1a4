"""Writes smollm2_tensors.json: what the `gguf` package reads from SmolLM2-135M-Instruct.Q4_1.gguf.

    python smollm2_tensors.py SmolLM2-135M-Instruct.Q4_1.gguf

Sums are f64 over the dequantised f32 numbers. `weighted_sum` multiplies number i (row-major) by i mod 1009 + 1, so that
a wrong order of rows shows. Query and key rows are put into the order of the original checkpoint first.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

HEADS, KV_HEADS = 9, 3
TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
    "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj.weight",
    "blk.7.attn_v.weight": "model.layers.7.self_attn.v_proj.weight",
    "blk.12.attn_output.weight": "model.layers.12.self_attn.o_proj.weight",
    "blk.15.ffn_gate.weight": "model.layers.15.mlp.gate_proj.weight",
    "blk.20.ffn_up.weight": "model.layers.20.mlp.up_proj.weight",
    "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
    "blk.29.attn_k.weight": "model.layers.29.self_attn.k_proj.weight",
    "blk.3.attn_norm.weight": "model.layers.3.input_layernorm.weight",
    "output_norm.weight": "model.norm.weight",
}


def rows_of_checkpoint(name, x):
    heads = HEADS if ".attn_q." in name else KV_HEADS if ".attn_k." in name else None
    if heads is None:
        return x
    rows, width = x.shape
    return x.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def main(path):
    reader = GGUFReader(path)
    tensors = {}
    for t in reader.tensors:
        if t.name not in TENSORS:
            continue
        x = rows_of_checkpoint(t.name, dequantize(t.data, t.tensor_type))
        assert x.dtype == np.float32
        flat = x.reshape(-1).astype(np.float64)
        tensors[TENSORS[t.name]] = {
            "shape": list(x.shape),
            "first": [float(v) for v in flat[:6]],
            "sum": float(flat.sum()),
            "weighted_sum": float((flat * (np.arange(flat.size) % 1009 + 1.0)).sum()),
        }
    assert len(tensors) == len(TENSORS)
    out = {
        "versions": {"gguf": importlib.metadata.version("gguf"), "numpy": np.__version__},
        "sha256": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
        "num_parameters": int(sum(int(np.prod(t.shape)) for t in reader.tensors)),
        "tensors": tensors,
    }
    target = pathlib.Path(__file__).with_name("smollm2_tensors.json")
    target.write_text(json.dumps(out, indent=1) + "\n")


main(sys.argv[1])
