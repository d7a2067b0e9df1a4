"""Writes `packing.json`: the rows that TRL's `pack_dataset` makes of documents of random lengths.

    python packing.py     # trl 1.16.0, datasets 5.2.0, pyarrow 26.0.1, numpy (lengths only)

A token's value names its document and its place in it, so the rows are read off the packed tokens: each row is a list of
pieces `[document, start, end]`. All documents are packed in one call of the strategy, not in batches of 1 000.
"""

import json
import pathlib
from importlib.metadata import version

import numpy as np
from datasets import Dataset
from trl import pack_dataset

HERE = pathlib.Path(__file__).parent
STRIDE = 1 << 20


def pieces(tokens):
    """Runs of consecutive values; a row may hold two pieces of one document that touch only by chance of order."""
    found = []
    for token in tokens:
        document, place = divmod(token, STRIDE)
        if found and found[-1][0] == document and found[-1][2] == place:
            found[-1][2] = place + 1
        else:
            found.append([document, place, place + 1])
    return found


def main():
    random = np.random.default_rng(0)
    cases = []
    for name, capacity, count, draw in [
        ("few equal lengths", 16, 60, lambda n: random.integers(1, 6, n)),
        ("up to a third above the row", 64, 300, lambda n: random.integers(1, 86, n)),
        ("lengths of chats", 512, 400, lambda n: np.clip(random.lognormal(5.0, 0.8, n), 1, 1500).astype(int)),
        ("far above the row", 7, 80, lambda n: random.integers(1, 40, n)),
    ]:
        lengths = [int(length) for length in draw(count)]
        documents = [[document * STRIDE + place for place in range(length)] for document, length in enumerate(lengths)]
        dataset = Dataset.from_dict({"input_ids": documents})
        rows = {}
        for strategy in ["bfd", "bfd_split", "wrapped"]:
            packed = pack_dataset(dataset, capacity, strategy, map_kwargs={"batch_size": count})
            rows[strategy] = [pieces(row) for row in packed["input_ids"]]
        cases.append({"name": name, "capacity": capacity, "lengths": lengths, "rows": rows})
    versions = {package: version(package) for package in ["trl", "datasets", "pyarrow", "numpy"]}
    (HERE / "packing.json").write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
