"""Measures how fast conversations become packed batches with the Python libraries, and prints one line of JSON.

    python chat_data.py --model FOLDER --threads N --job NAME --inputs FILE

FILE is Parquet or JSON Lines of `messages`. The work, and the line printed, are those of `crates/rl-data/examples/measure`: read, chat
template, tokens, mask of the assistant's tokens, length filter, packing by best-fit decreasing in lots of 1 000, batches.
`data` is what the documentation of `datasets` and TRL shows: `map` over N processes, whose results go to a cache folder;
the folder is new each time. `data-streaming` is the same over an `IterableDataset`, in one process, for who needs the first
batch early. The tokenizer has its own N threads where `datasets` has no processes.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from importlib.metadata import version

MAX_TOKENS = 2048
ANSWER = "message['content'] + '<|im_end|>' + '\n'"
SAMPLE_SECONDS = 0.5


def seconds_since_start():
    """Age of this process (field 22 of /proc/self/stat is its start, in ticks since the machine booted)."""
    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


class Memory(threading.Thread):
    """The most memory that this process and those it started held together: the sum of their proportional shares (PSS),
    in which a page that several of them map counts once."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self):
        while not self.ended.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self):
        self.peak = max(self.peak, sum(self.held(pid) for pid in self.tree(os.getpid())))

    def tree(self, pid):
        found = [pid]
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    for child in children.read().split():
                        found += self.tree(int(child))
        except OSError:
            pass  # it has ended meanwhile
        return found

    def held(self, pid):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            return 0


def with_generation_block(template):
    """SmolLM2's template with the block that `return_assistant_tokens_mask` asks for around what the assistant writes."""
    assert template.count(ANSWER) == 1, template
    role, generation = "{{'<|im_start|>' + message['role'] + '\n' + ", "{% generation %}"
    assert template.count(role + ANSWER + "}}") == 1, template
    marked = (
        "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}" + generation
        + "{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\n'}}{% else %}{{" + ANSWER + "}}{% endif %}"
    )
    return template.replace(role + ANSWER + "}}", marked)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--job", required=True, choices=["data", "data-streaming"])
    arguments = parser.parse_args()
    streaming = arguments.job == "data-streaming"
    os.environ["RAYON_NUM_THREADS"] = str(arguments.threads)
    cache = tempfile.TemporaryDirectory()
    os.environ["HF_DATASETS_CACHE"] = cache.name
    memory = Memory()
    memory.start()

    import datasets
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer
    from trl import pack_dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    datasets.disable_progress_bars()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tokenizer.chat_template = with_generation_block(tokenizer.chat_template)
    processes = {} if streaming else {"num_proc": arguments.threads}
    seen = {"rows": 0, "kept": 0}

    def tokenise(batch):
        encoded = tokenizer.apply_chat_template(
            batch["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        labels = [
            [token if trained else -100 for token, trained in zip(ids, mask)]
            for ids, mask in zip(encoded["input_ids"], encoded["assistant_masks"])
        ]
        seen["rows"] += len(labels)
        return {"input_ids": encoded["input_ids"], "labels": labels}

    def fits(batch):
        kept = [len(ids) <= MAX_TOKENS for ids in batch["input_ids"]]
        seen["kept"] += sum(kept)
        return kept

    kind = "parquet" if arguments.inputs.endswith(".parquet") else "json"
    dataset = datasets.load_dataset(kind, data_files=arguments.inputs, split="train", streaming=streaming)
    rows = None if streaming else len(dataset)
    dataset = dataset.map(tokenise, batched=True, remove_columns=["messages"], **processes)
    dataset = dataset.filter(fits, batched=True, **processes)
    kept = None if streaming else len(dataset)
    dataset = pack_dataset(dataset, MAX_TOKENS, "bfd", map_kwargs=processes)
    collator = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id, padding_free=True)

    first_batch, batches, tokens, targets = None, 0, 0, 0
    for batch in DataLoader(dataset, batch_size=1, collate_fn=collator):
        if first_batch is None:
            first_batch = seconds_since_start()
        batches += 1
        tokens += batch["input_ids"].numel()
        targets += int((batch["labels"] != -100).sum())
    seconds = time.perf_counter() - started
    memory.sample()
    memory.ended.set()
    rows, kept = rows or seen["rows"], kept or seen["kept"]
    values = {
        "rows": rows,
        "rows_per_second": rows / seconds,
        "seconds": seconds,
        "first_batch_seconds": first_batch,
        "kept_rows": kept,
        "batches": batches,
        "trained_on": tokens,
        "targets": targets,
        "peak_bytes": memory.peak,
    }
    packages = ["datasets", "transformers", "tokenizers", "trl"]
    print(json.dumps({"values": values, "versions": {name: version(name) for name in packages}}), flush=True)


if __name__ == "__main__":
    main()
