"""Reads a table that rl-data wrote with pyarrow, pandas, polars and Hugging Face datasets, and compares with its rows.

    REINS_KEEP_SAVED=FOLDER cargo test -p rl-data records_written_are_records_read
    venv/bin/python check_written.py FOLDER
"""

import json
import pathlib
import sys
import tempfile

import datasets
import numpy
import pandas
import polars
import pyarrow.parquet as pq

folder = pathlib.Path(sys.argv[1])
table = str(folder / "pairs.parquet")


def plain(value):
    """Lists and dictionaries without nulls: a table gives every object the same fields."""
    if isinstance(value, numpy.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        items = {name: plain(item) for name, item in value.items()}
        return {name: item for name, item in items.items() if item is not None} or None
    return None if isinstance(value, float) and value != value else value


expected = plain(json.loads((folder / "pairs.json").read_text()))
with tempfile.TemporaryDirectory() as cache:
    readers = {
        "pyarrow": pq.read_table(table).to_pylist(),
        "pandas": pandas.read_parquet(table).to_dict("records"),
        "polars": polars.read_parquet(table).to_dicts(),
        "datasets": datasets.Dataset.from_parquet(table, cache_dir=cache).to_list(),
    }
for name, rows in readers.items():
    assert plain(rows) == expected, (name, plain(rows), expected)
print(f"{len(expected)} rows are the same in {', '.join(readers)}")
