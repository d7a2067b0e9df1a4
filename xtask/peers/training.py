"""One optimizer step of supervised fine-tuning: TRL's trainer as it comes, and a plain loop over transformers.

Both are full fine-tuning in f32 with AdamW (fused), clipping at the given norm and gradient checkpointing off; every
token but the first of each sequence is a label. The first steps warm up, the last one is timed.
"""

import tempfile
import time

import torch

PAD_ID = 0


def result(wanted, seconds, losses):
    tokens = sum(map(len, wanted["sequences"]))
    return {"values": {"seconds": seconds, "useful_tokens_per_second": tokens / seconds}, "losses": losses}


def trl_step(model, inputs):
    """TRL's SFTTrainer with a padded batch of all sequences, its default."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    wanted = inputs["train"]
    num_steps = wanted["warm_up_steps"] + 1

    class Clock(TrainerCallback):
        def __init__(self):
            self.started, self.seconds, self.losses = 0.0, [], []

        def on_step_begin(self, *_, **__):
            self.started = time.perf_counter()

        def on_step_end(self, *_, **__):
            self.seconds.append(time.perf_counter() - self.started)

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in logs:
                self.losses.append(logs["loss"])

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=num_steps,
            per_device_train_batch_size=len(wanted["sequences"]),
            learning_rate=wanted["learning_rate"],
            lr_scheduler_type="constant",
            weight_decay=wanted["weight_decay"],
            max_grad_norm=wanted["max_grad_norm"],
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        assert config.optim == "adamw_torch_fused" and not config.packing, (config.optim, config.packing)
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_dict({"input_ids": wanted["sequences"]}),
            processing_class=AutoTokenizer.from_pretrained(inputs["model"]),
            callbacks=[clock],
        )
        # The data must reach the model as given: TRL may add an end token to a text.
        found = sorted(len(row) for row in trainer.train_dataset["input_ids"])
        assert found == sorted(map(len, wanted["sequences"])), found
        trainer.train()
    return result(wanted, clock.seconds[-1], clock.losses)


def padded(sequences):
    """`[rows, longest]` ids, attention mask and labels, padded on the right; no label on padding."""
    longest = max(map(len, sequences))

    def fill(value, row_of):
        return torch.tensor([row_of(ids) + [value] * (longest - len(ids)) for ids in sequences])

    ids = fill(PAD_ID, list)
    return ids, fill(0, lambda ids: [1] * len(ids)), fill(-100, list)


def loop_step(model, inputs, rows):
    """A hand-written loop, `rows` sequences to a backward pass; with one there is no padding at all."""
    wanted = inputs["train"]
    sequences = wanted["sequences"]
    num_labels = sum(len(ids) - 1 for ids in sequences)
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=wanted["learning_rate"], weight_decay=wanted["weight_decay"], fused=True
    )
    losses = []
    for _ in range(wanted["warm_up_steps"] + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        total = 0.0
        for first in range(0, len(sequences), rows):
            ids, mask, labels = padded(sequences[first : first + rows])
            loss = model(
                input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=num_labels, use_cache=False
            ).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), wanted["max_grad_norm"])
        optimizer.step()
        seconds = time.perf_counter() - started
        losses.append(total)
    return result(wanted, seconds, losses)
