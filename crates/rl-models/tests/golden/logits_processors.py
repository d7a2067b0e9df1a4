"""Writes logits_processors.json: what transformers' logits processors make of fixed logits.

Run: python logits_processors.py (torch, transformers)

Each case names its settings; the processors are those that `generate` would build, in its order. The result is the
probability of every token of a vocabulary of 40, in f64. The logits have exact ties at places that top-k cuts.
"""

import json
import pathlib

import torch
import transformers
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

VOCAB = 40
PROMPT_IDS = [3, 7, 7, 15, 24, 39]
STOP_IDS = [2, 5]

# Settings: repetition_penalty, min_new_tokens, temperature, top_k, top_p, min_p.
CASES = [
    (1.0, 0, 1.0, 0, 1.0, 0.0),
    (1.0, 0, 0.6, 0, 1.0, 0.0),
    (1.0, 0, 1.0, 5, 1.0, 0.0),
    (1.0, 0, 1.7, 6, 1.0, 0.0),
    (1.0, 0, 1.0, 0, 0.8, 0.0),
    (1.0, 0, 0.7, 0, 0.95, 0.0),
    (1.0, 0, 1.0, 10, 0.6, 0.0),
    (1.0, 0, 1.0, 0, 1.0, 0.1),
    (1.0, 0, 1.4, 0, 0.9, 0.08),
    (1.3, 0, 1.0, 0, 1.0, 0.0),
    (0.8, 0, 1.0, 0, 1.0, 0.0),
    (1.0, 4, 1.0, 0, 1.0, 0.0),
    (1.2, 2, 0.9, 12, 0.9, 0.02),
]


def logits_of(row):
    """Logits in eighths, some equal, of both signs; a function of the row alone."""
    values = [((position * 37 + row * 11) % 29 - 12) / 4 + position % 3 / 8 for position in range(VOCAB)]
    return torch.tensor([values], dtype=torch.float32)


def processors(penalty, min_new_tokens, temperature, top_k, top_p, min_p):
    chain = LogitsProcessorList()
    if penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(penalty))
    if min_new_tokens:
        chain.append(MinNewTokensLengthLogitsProcessor(len(PROMPT_IDS), min_new_tokens, STOP_IDS, device="cpu"))
    if temperature != 1.0:
        chain.append(TemperatureLogitsWarper(temperature))
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        chain.append(TopPLogitsWarper(top_p))
    if min_p:
        chain.append(MinPLogitsWarper(min_p))
    return chain


def main():
    cases = []
    for row, settings in enumerate(CASES):
        logits = logits_of(row)
        scores = processors(*settings)(torch.tensor([PROMPT_IDS]), logits.clone())
        names = ["repetition_penalty", "min_new_tokens", "temperature", "top_k", "top_p", "min_p"]
        cases.append(
            {
                "settings": dict(zip(names, settings)),
                "logits": logits[0].tolist(),
                "probabilities": scores[0].double().softmax(-1).tolist(),
                "full_log_probs": (logits[0].double() / settings[2]).log_softmax(-1).tolist(),
            }
        )
    record = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "prompt_ids": PROMPT_IDS,
        "stop_ids": STOP_IDS,
        "cases": cases,
    }
    target = pathlib.Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(record) + "\n")
    for case in cases:
        print(case["settings"], sum(p > 0 for p in case["probabilities"]))


main()
