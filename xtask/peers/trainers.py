"""Steps of TRL's trainers, as they come: full fine-tuning in f32, AdamW (fused), gradient checkpointing off.

A step runs from TRL's `on_step_begin` to its `on_step_end`: for GRPO and RLOO the sampling and the rewards belong to it.
The first steps warm up; of the others the median counts. `start_seconds` is the time from the start of the process, by
the kernel's clock, to the first `on_step_begin`: imports, weights, data and what the trainer prepares.
"""

import os
import statistics
import tempfile
import time

import torch
from transformers import LogitsProcessor, LogitsProcessorList, TrainerCallback


def seconds_since_start():
    """Age of this process (field 22 of /proc/self/stat is its start, in ticks since the machine booted)."""
    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


class Started(Exception):
    """The first step would begin now."""


class Clock(TrainerCallback):
    """When steps began and ended, and their losses."""

    only_start = False

    def __init__(self):
        self.start_seconds, self.began, self.seconds, self.losses = None, 0.0, [], []

    def on_step_begin(self, *_, **__):
        if self.start_seconds is None:
            self.start_seconds = seconds_since_start()
            if self.only_start:
                raise Started(self.start_seconds)
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self.began)

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            self.losses.append(logs["loss"])


def common(settings, folder):
    """What every trainer is asked for."""
    return dict(
        output_dir=folder,
        max_steps=settings["warm_up_steps"] + settings["timed_steps"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="constant",
        adam_beta1=settings["beta1"],
        adam_beta2=settings["beta2"],
        adam_epsilon=settings["eps"],
        weight_decay=settings["weight_decay"],
        max_grad_norm=settings["max_grad_norm"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def timed(trainer, clock, settings, tokens, **more):
    """Trains and says how long a step took; `tokens` are the useful ones of a step."""
    assert trainer.args.optim == "adamw_torch_fused", trainer.args.optim
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    reference = getattr(trainer, "ref_model", None)
    assert reference is None or {p.dtype for p in reference.parameters()} == {torch.float32}
    trainer.train()
    steps = clock.seconds[settings["warm_up_steps"] :]
    assert len(steps) == settings["timed_steps"], clock.seconds
    seconds = statistics.median(steps)
    values = {
        "start_seconds": clock.start_seconds,
        "seconds": seconds,
        "first_step_seconds": clock.seconds[0],
        "useful_tokens_per_second": tokens / seconds,
    }
    return {"values": values, **more}


def tokenizer(inputs):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(inputs["model"])


def sft(model, inputs):
    """A padded batch of all sequences."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    sequences, clock = inputs["sequences"], Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                **common(inputs["settings"], folder),
                per_device_train_batch_size=len(sequences),
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_dict({"input_ids": sequences}),
            processing_class=tokenizer(inputs),
            callbacks=[clock],
        )
        # The data must reach the model as given: TRL may add an end token to a text.
        assert list(trainer.train_dataset["input_ids"]) == sequences
        return timed(trainer, clock, inputs["settings"], sum(map(len, sequences)), losses=clock.losses)


def pair_tokens(pairs):
    """Ids of all sequences of all pairs; the prompt counts in both."""
    return sum(2 * len(p["prompt_ids"]) + len(p["chosen_ids"]) + len(p["rejected_ids"]) for p in pairs)


def dpo(model, inputs):
    """A padded batch of all pairs; the reference is a copy that runs beside the policy in every step."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    pairs, clock, words = inputs["pairs"], Clock(), tokenizer(inputs)
    texts = [{name.removesuffix("_ids"): words.decode(ids) for name, ids in pair.items()} for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(
                **common(inputs["settings"], folder),
                per_device_train_batch_size=len(pairs),
                train_sampling_strategy="sequential",
                beta=inputs["dpo"]["beta"],
            ),
            train_dataset=Dataset.from_list(texts),
            processing_class=words,
            callbacks=[clock],
        )
        assert trainer.loss_types == ["sigmoid"] and not trainer.precompute_ref_logps
        found = trainer.train_dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"])
        assert list(found) == pairs, "the texts do not give the ids again"
        return timed(trainer, clock, inputs["settings"], pair_tokens(pairs), losses=clock.losses)


def reward(model, inputs):
    """A padded batch of all pairs; the model has a reward head, which gets the weight of the inputs."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    pairs, clock, words = inputs["pairs"], Clock(), tokenizer(inputs)
    # The score is read at the last id that is not padding, so padding must not be the end token.
    words.pad_token = words.convert_ids_to_tokens(0)
    assert all(0 not in ids for pair in pairs for ids in pair.values())
    model.config.pad_token_id = words.pad_token_id
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(inputs["reward"]["score"])[None])
    rows = [{name: pair["prompt_ids"] + pair[name] for name in ("chosen_ids", "rejected_ids")} for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                **common(inputs["settings"], folder),
                per_device_train_batch_size=len(pairs),
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=words,
            callbacks=[clock],
        )
        assert list(trainer.train_dataset.select_columns(["chosen_ids", "rejected_ids"])) == rows
        assert trainer.model.config.pad_token_id == 0, trainer.model.config.pad_token_id
        return timed(trainer, clock, inputs["settings"], pair_tokens(pairs), losses=clock.losses)


class EndAtLength(LogitsProcessor):
    """Row r ends with `end_ids[0]` as its `lengths[r]`-th new id, and with none of `end_ids` before."""

    def __init__(self, prompt_length, lengths, end_ids):
        self.prompt_length, self.lengths, self.end_ids = prompt_length, torch.tensor(lengths), end_ids

    def __call__(self, input_ids, scores):
        made = input_ids.shape[1] - self.prompt_length
        ends = self.lengths == made + 1
        scores[:, self.end_ids] = -torch.inf
        scores[ends] = -torch.inf
        scores[ends, self.end_ids[0]] = 0.0
        return scores


def group_rollouts(model, inputs, trainer_class, config_class, **own):
    """One group to each prompt, all sampled together; forward and backward over one group at a time, TRL's batch of 8."""
    from datasets import Dataset

    wanted, clock, words = inputs["rollout"], Clock(), tokenizer(inputs)
    lengths, prompts, group = wanted["lengths"], wanted["prompts"], wanted["group_size"]
    texts = [words.decode(ids) for ids in prompts]
    assert words(text=texts)["input_ids"] == prompts, "the texts do not give the ids again"
    longest = max(map(len, prompts))

    def different_ids(completion_ids, **_):
        assert [len(ids) for ids in completion_ids] == lengths
        return [len(set(ids)) / len(ids) for ids in completion_ids]

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=model,
            reward_funcs=different_ids,
            args=config_class(
                **common(inputs["settings"], folder),
                per_device_train_batch_size=group,
                gradient_accumulation_steps=len(prompts),
                num_generations=group,
                max_completion_length=max(lengths),
                temperature=wanted["temperature"],
                shuffle_dataset=False,
                **own,
            ),
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=words,
            callbacks=[clock],
        )
        assert trainer.args.generation_batch_size == len(lengths), trainer.args.generation_batch_size
        generate = model.generate

        def generate_to_length(*positional, input_ids, **named):
            assert input_ids.shape == (len(lengths), longest), input_ids.shape
            ends = LogitsProcessorList([EndAtLength(longest, lengths, trainer.eos_token_ids)])
            return generate(*positional, input_ids=input_ids, logits_processor=ends, **named)

        model.generate = generate_to_length
        return timed(trainer, clock, inputs["settings"], sum(lengths))


def grpo(model, inputs):
    """TRL's defaults: no reference, advantages over the group's standard deviation, mean over the step's tokens."""
    from trl import GRPOConfig, GRPOTrainer

    return group_rollouts(model, inputs, GRPOTrainer, GRPOConfig)


def rloo(model, inputs):
    """TRL's defaults: the divergence from a reference is part of the reward."""
    from trl import RLOOConfig, RLOOTrainer

    return group_rollouts(model, inputs, RLOOTrainer, RLOOConfig, beta=inputs["rollout"]["rloo_kl_coef"])
