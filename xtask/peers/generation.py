"""Decoding and rollouts with `transformers`' own `generate`: left-padded batches, key/value cache, SDPA attention."""

import time

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

PAD_ID = 0


def settings(model, **wanted):
    """Generation settings that hold only what is asked for; no id ends an answer.

    The checkpoint's own settings are replaced too, because `generate` falls back to them where a value is None.
    """
    config = GenerationConfig(pad_token_id=PAD_ID, eos_token_id=None, use_cache=True, **wanted)
    model.generation_config = config
    return config


def left_padded(prompts):
    """`[batch, longest]` ids and attention mask."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[PAD_ID] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


@torch.inference_mode()
def decode(model, inputs, batch):
    """Greedy answers of a fixed length. One new token costs the prefill; what the others cost beyond it is decoding."""
    new_tokens = inputs["decode"]["new_tokens"]
    prompts = inputs["prompts"][:batch]
    ids, mask = left_padded(prompts)

    def run(count):
        config = settings(model, do_sample=False, max_new_tokens=count)
        started = time.perf_counter()
        output = model.generate(ids, attention_mask=mask, generation_config=config)
        seconds = time.perf_counter() - started
        answers = output[:, ids.shape[1] :]
        assert answers.shape == (batch, count), answers.shape
        return seconds, answers.tolist()

    run(inputs["decode"]["warm_up_tokens"])
    prefill_seconds, _ = run(1)
    seconds, answers = run(new_tokens)
    return {
        "values": {
            "seconds": seconds,
            "prefill_tokens_per_second": sum(map(len, prompts)) / prefill_seconds,
            "decode_tokens_per_second": batch * (new_tokens - 1) / (seconds - prefill_seconds),
        },
        "tokens": answers,
    }


class EachAtItsLength(StoppingCriteria):
    """Ends row r once it has `lengths[r]` new tokens; `generate` stops when every row has ended."""

    def __init__(self, prompt_length, lengths):
        self.ends = prompt_length + torch.tensor(lengths)

    def __call__(self, input_ids, scores, **kwargs):
        return self.ends <= input_ids.shape[1]


@torch.inference_mode()
def rollout(model, inputs, rows):
    """Sampled answers to groups of prompts, `rows` answers to a batch. Useful tokens are those that were wanted."""
    wanted = inputs["rollout"]
    group, lengths = wanted["group_size"], wanted["lengths"]
    prompts = inputs["prompts"][: wanted["num_prompts"]]
    config = settings(
        model,
        do_sample=True,
        temperature=wanted["temperature"],
        top_k=0,
        top_p=1.0,
        num_return_sequences=group,
        max_new_tokens=max(lengths),
    )

    def run(prompts, lengths):
        ids, mask = left_padded(prompts)
        ends = StoppingCriteriaList([EachAtItsLength(ids.shape[1], lengths)])
        output = model.generate(ids, attention_mask=mask, generation_config=config, stopping_criteria=ends)
        assert output.shape == (len(lengths), ids.shape[1] + max(lengths)), output.shape

    run(prompts[:1], [inputs["decode"]["warm_up_tokens"]] * group)
    started = time.perf_counter()
    for first in range(0, len(prompts), rows // group):
        chosen = prompts[first : first + rows // group]
        run(chosen, lengths[first * group : (first + len(chosen)) * group])
    seconds = time.perf_counter() - started
    return {"values": {"seconds": seconds, "useful_tokens_per_second": sum(lengths) / seconds}}
