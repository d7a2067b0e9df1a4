"""Writes quant_blocks.safetensors: blocks of every GGUF storage type and the numbers that the `gguf` package reads in them.

    python quant_blocks.py    (gguf 0.19, numpy 2.4)

`TYPE.blocks` `[blocks, bytes]` are random bytes whose f16 scales are finite; the types that `gguf` can also write have as
many blocks again that it quantised from normal numbers. `TYPE.values` `[blocks * numbers]` is its dequantisation, f32.
"""

import importlib.metadata
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
# Type: byte offsets of its f16 scales in a block.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.F16: [0], T.BF16: [], T.F32: [],
}
QUANTIZABLE = {T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.F16, T.BF16}


def main():
    rng = np.random.default_rng(11)
    arrays = {}
    for kind, offsets in SCALES.items():
        length, size = gguf.GGML_QUANT_SIZES[kind]
        count = 6 if length == 256 else 16 if length == 32 else 64
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if kind == T.F32:
            blocks = rng.standard_normal((count, 1)).astype(np.float32).view(np.uint8)
        if kind == T.BF16:
            blocks = (rng.standard_normal((count, 1)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        for offset in offsets:
            # Any f16 bit pattern that is neither infinite nor NaN: subnormal and negative ones too.
            half = rng.integers(0, 1 << 16, count, dtype=np.uint16)
            half = np.where((half & 0x7C00) == 0x7C00, half & 0x83FF, half).astype(np.uint16)
            blocks[:, offset : offset + 2] = half[:, None].view(np.uint8)
        if kind in QUANTIZABLE:
            x = rng.standard_normal((count, length)).astype(np.float32)
            blocks = np.concatenate([blocks, np.ascontiguousarray(gguf.quants.quantize(x, kind)).view(np.uint8)])
        blocks = np.ascontiguousarray(blocks)
        source = blocks.view(np.float32) if kind == T.F32 else blocks.view(np.float16) if kind == T.F16 else blocks
        values = gguf.quants.dequantize(source, kind).astype(np.float32).reshape(-1)
        assert np.isfinite(values).all() and values.size == len(blocks) * length, kind
        arrays[f"{kind.name}.blocks"], arrays[f"{kind.name}.values"] = blocks, np.ascontiguousarray(values)
    versions = {name: importlib.metadata.version(name) for name in ["gguf", "numpy"]}
    save_file(arrays, HERE / "quant_blocks.safetensors", metadata=versions)
    print({name: array.shape for name, array in arrays.items()})


main()
