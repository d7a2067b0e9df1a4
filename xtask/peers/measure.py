"""Measures one workload with the Python libraries that a user would take, and prints one line of JSON.

    python measure.py --inputs FILE --model FOLDER --threads N --job NAME

FILE holds the token ids and lengths that both sides use: for the jobs whose names start with `trainer-` it is
trainers.json beside this file, for all others what `measure prepare` of rl-examples writes. The line has the form that
`measure run` of rl-examples prints: {"values": {...}, "tokens": [[...]], "losses": [...], "versions": {...}}.
Deliberately absent: medians, ratios, pages; `cargo xtask bench` makes them.
"""

import argparse
import json
import sys
import warnings
from importlib.metadata import version

import torch
import transformers

import generation
import trainers
import training


def jobs(inputs, load, load_reward_model):
    """Every job by name; nothing runs until its entry is called."""
    return {
        "decode-1": lambda: generation.decode(load(), inputs, 1),
        "decode-8": lambda: generation.decode(load(), inputs, 8),
        "decode-32": lambda: generation.decode(load(), inputs, 32),
        "rollout-rows-32": lambda: generation.rollout(load(), inputs, 32),
        "rollout-rows-128": lambda: generation.rollout(load(), inputs, 128),
        "train-trl": lambda: training.trl_step(load(), inputs),
        "train-loop-padded": lambda: training.loop_step(load(), inputs, rows=len(inputs["train"]["sequences"])),
        "train-loop-one-by-one": lambda: training.loop_step(load(), inputs, rows=1),
        "trainer-sft": lambda: trainers.sft(load(), inputs),
        "trainer-dpo": lambda: trainers.dpo(load(), inputs),
        "trainer-reward": lambda: trainers.reward(load_reward_model(), inputs),
        "trainer-grpo": lambda: trainers.grpo(load(), inputs),
        "trainer-rloo": lambda: trainers.rloo(load(), inputs),
    }


def peak_bytes():
    """The most memory this process ever held, as the kernel counts it (VmHWM)."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no VmHWM")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", required=True, help="the JSON file of shared inputs")
    parser.add_argument("--model", required=True, help="a folder in the Hugging Face layout")
    parser.add_argument("--threads", required=True, type=int, help="threads of one tensor operation")
    parser.add_argument("--job", required=True, choices=sorted(jobs({"train": {"sequences": []}}, None, None)))
    parser.add_argument("--only-start", action="store_true", help="of a trainer: end where its first step would begin")
    arguments = parser.parse_args()

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with open(arguments.inputs) as file:
        inputs = json.load(file)
    inputs["model"] = arguments.model

    def load():
        return transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)

    def load_reward_model():
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            arguments.model, dtype=torch.float32, num_labels=1
        )

    trainers.Clock.only_start = arguments.only_start
    try:
        result = jobs(inputs, load, load_reward_model)[arguments.job]()
    except trainers.Started as started:
        result = {"values": {"start_seconds": started.args[0]}}
    result["values"]["peak_bytes"] = peak_bytes()
    uses_trl = arguments.job == "train-trl" or arguments.job.startswith("trainer-")
    packages = ["torch", "transformers"] + (["trl", "accelerate"] if uses_trl else [])
    result["versions"] = {name: version(name) for name in packages}
    # TRL prints its own log lines to standard output; ours is the last line.
    sys.stdout.flush()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
