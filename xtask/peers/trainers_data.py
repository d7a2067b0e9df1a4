"""Writes trainers.json, the shared data of the trainers' jobs: token ids and lengths that both sides train on.

    python trainers_data.py --model data/models/smollm2-135m

The file is kept in the repository, so this runs only when the data is to change. The ids are cuts of the text that the
other jobs use, chosen so that their text gives the same ids again: TRL's trainers for preferences and sampling take
text. Fields of trainers.json:

- `settings`: of AdamW (constant learning rate), clipping, and `warm_up_steps` and `timed_steps`. Every step trains the
  same data, in the order given, as one optimizer step.
- `sequences`: for SFT; 8 sequences of 32 to 512 ids, every id but the first of each is a label.
- `pairs`: for DPO and the reward model; 4 pairs, whose 8 sequences are 32 to 512 ids long. `prompt_ids`, `chosen_ids`,
  `rejected_ids`; both responses end in `end_id`, which stands nowhere else.
- `dpo.beta`, and `reward.score` `[hidden]`: the reward head's weight at the start, so that both sides have the same.
- `rollout`: for GRPO and RLOO. `prompts`, `group_size`, `temperature`, and `lengths` `[prompts * group_size]`, answers to
  one prompt beside each other: the answer to a prompt is ended at its length, the last id included, and never before.
  The reward of an answer is its number of different ids over its number of ids. `rloo_kl_coef`: RLOO's.
"""

import argparse
import json
import math
import pathlib

HERE = pathlib.Path(__file__).parent
TEXT = HERE.parent.parent / "crates/rl-examples/src/bin/measure/text.txt"


def spread(first, last, count):
    """`count` whole numbers evenly spread over a closed range, rising."""
    return [first + round(index * (last - first) / (count - 1)) for index in range(count)]


class Cuts:
    """Pieces of the text; the same text gives their ids again."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.ids = tokenizer(TEXT.read_text())["input_ids"]
        self.start = 0

    def next(self, length, before=()):
        """The next piece of `length` ids that stays whole after `before` and by itself."""
        for _ in range(len(self.ids)):
            piece = [self.ids[(self.start + at) % len(self.ids)] for at in range(length)]
            self.start += 37
            if self.is_whole(piece) and self.is_whole([*before, *piece]):
                return piece
        raise SystemExit(f"no piece of {length} ids stays whole")

    def is_whole(self, ids):
        return self.tokenizer(self.tokenizer.decode(ids))["input_ids"] == list(ids)


def pairs(cuts, end_id):
    lengths = spread(32, 512, 8)
    found = []
    for index in range(4):
        shorter, longer = lengths[2 * index], lengths[2 * index + 1]
        prompt = cuts.next(shorter // 3)
        answer = lambda length: cuts.next(length - len(prompt) - 1, prompt) + [end_id]
        short, long = answer(shorter), answer(longer)
        # The chosen one is the longer in every other pair.
        chosen, rejected = (long, short) if index % 2 else (short, long)
        found.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return found


def main():
    from transformers import AutoConfig, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder in the Hugging Face layout")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    hidden = AutoConfig.from_pretrained(arguments.model).hidden_size
    cuts = Cuts(tokenizer)
    num_prompts, group_size = 4, 8
    lengths = spread(8, 128, num_prompts * group_size)
    # 11 and 32 share no factor: every length once, short and long ones beside each other in every group.
    lengths = [lengths[(11 * index) % len(lengths)] for index in range(len(lengths))]
    data = {
        "settings": {
            "learning_rate": 1e-5,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "warm_up_steps": 1,
            "timed_steps": 2,
        },
        "sequences": [cuts.next(length) for length in spread(32, 512, 8)],
        "end_id": tokenizer.eos_token_id,
        "pairs": pairs(cuts, tokenizer.eos_token_id),
        "dpo": {"beta": 0.1},
        "reward": {"score": [round(0.02 * math.cos(index), 4) for index in range(hidden)]},
        "rollout": {
            "prompts": [cuts.next(length) for length in (28, 36, 31, 34)],
            "group_size": group_size,
            "temperature": 1.0,
            "lengths": lengths,
            "rloo_kl_coef": 0.05,
        },
    }
    # One line for each sequence keeps the file readable in a diff.
    text = json.dumps(data).replace("[[", "[\n[").replace("], [", "],\n[").replace('}, {"prompt', '},\n{"prompt')
    (HERE / "trainers.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
