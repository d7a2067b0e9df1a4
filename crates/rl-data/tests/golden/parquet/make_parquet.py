"""Writes the Parquet files of this folder, each with another tool, and rows.json with what is in them.

    python -m venv venv && venv/bin/pip install pyarrow pandas polars datasets
    venv/bin/python make_parquet.py

versions.txt says with which versions the files here were written.
"""

import datetime
import json
import pathlib

import datasets
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent


def turn(role, content):
    return {"role": role, "content": content}


# Conversations of several lengths, with text that needs care; a null and a missing source.
CHAT = [
    {
        "messages": [turn("user", f"question {i}"), turn("assistant", "ä🙂\n\"quoted\" \u2028" * (i % 3))]
        + [turn("user", "and then?"), turn("assistant", f"then {i}")] * (i % 2),
        "source": [None, "smol-magpie-ultra", "everyday"][i % 3],
        "score": None if i % 5 == 0 else i / 4,
    }
    for i in range(25)
]

# As in ultrafeedback_binarized.
PAIRS = [
    {
        "prompt": f"prompt {i}",
        "prompt_id": f"{i:04x}",
        "chosen": [turn("user", f"prompt {i}"), turn("assistant", f"good {i}")],
        "rejected": [turn("user", f"prompt {i}"), turn("assistant", f"bad {i}")],
        "messages": [turn("user", f"prompt {i}"), turn("assistant", f"good {i}")],
        "score_chosen": 8.5,
        "score_rejected": 8.5 - i / 2,
    }
    for i in range(10)
]

UNPAIRED = [
    {"prompt": f"p{i}", "completion": [turn("assistant", f"c{i}")], "label": i % 2 == 0, "fold": i % 3} for i in range(12)
]

# A conversation whose messages have a field that only some use, and a role of few values.
TOOLS = [
    {
        "messages": [
            {"content": "be brief", "role": "system", "name": None},
            {"content": f"hello {i}", "role": "user", "name": None},
            {"content": "hi", "role": "assistant", "name": None},
        ],
        "tags": ["a", None, "b"][: i % 4],
        "meta": None if i == 2 else {"id": i, "language": "en"},
        "empty": None,
    }
    for i in range(6)
]

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])


def write(name, table, **options):
    pq.write_table(table, HERE / name, **options)


chat_schema = pa.schema([("messages", pa.list_(MESSAGE)), ("source", pa.string()), ("score", pa.float64())])
chat = pa.Table.from_pylist(CHAT, schema=chat_schema)
for compression in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    # Row groups of seven rows, so that the last is a rest.
    write(f"pyarrow_{compression}.parquet", chat, compression=compression, row_group_size=7)

# large_list, large_string, a dictionary as the type of a column and within the messages, small whole numbers, a date and
# a time, and data pages of version 2.
role = pa.dictionary(pa.int32(), pa.string())
large = pa.schema(
    [
        ("messages", pa.large_list(pa.struct([("role", role), ("content", pa.large_string())]))),
        ("source", pa.dictionary(pa.int8(), pa.string())),
        ("score", pa.float32()),
        ("small", pa.int8()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
    ]
)
EXTRA = {"small": -3, "day": datetime.date(2024, 2, 29), "at": datetime.datetime(2024, 2, 29, 12, 30)}
large_rows = [{**row, **EXTRA} for row in CHAT]
write("pyarrow_large.parquet", pa.Table.from_pylist(large_rows, schema=large), data_page_version="2.0", row_group_size=9)

frame = pandas.DataFrame(CHAT)
frame["source"] = frame["source"].astype("category")
frame.to_parquet(HERE / "pandas.parquet")
polars.DataFrame(PAIRS).write_parquet(HERE / "polars.parquet", row_group_size=4)
datasets.Dataset.from_list(PAIRS).to_parquet(str(HERE / "datasets_pairs.parquet"), batch_size=4)
datasets.Dataset.from_list(UNPAIRED).to_parquet(str(HERE / "datasets_unpaired.parquet"))
write("pyarrow_tools.parquet", pa.Table.from_pylist(TOOLS), use_dictionary=True)

# What cannot be read: bytes, and a number that JSON does not have.
write("pyarrow_bytes.parquet", pa.table({"prompt": ["a"], "image": [b"\x89PNG"]}))
write("pyarrow_nan.parquet", pa.table({"prompt": ["a", "b", "c"], "score": [1.0, 2.0, float("nan")]}))

# The same rows as packed text.
lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in CHAT).encode()
for ending, compression in [("gz", "gzip"), ("zst", "zstd")]:
    with pa.CompressedOutputStream(str(HERE / f"chat.jsonl.{ending}"), compression) as out:
        out.write(lines)

rows = {"chat": CHAT, "pairs": PAIRS, "unpaired": UNPAIRED, "tools": TOOLS}
(HERE / "rows.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
versions = {module.__name__: module.__version__ for module in [pa, pandas, polars, datasets]}
(HERE / "versions.txt").write_text("".join(f"{name} {version}\n" for name, version in versions.items()))
