"""Writes trajectories/: five optimizer steps of TRL's own trainers from one tiny checkpoint, and where they end.

    python trajectories.py

torch, transformers, trl and their versions are in trajectories.json; the README.md beside that file describes every field. f32 on
the CPU with one thread, rows in file order, AdamW, constant learning rate, no dropout. The ids and masks are taken
from the batches that the trainers trained, after their tokenisation, truncation and padding; the losses from what they
sent backwards, not from their rounded log. Each run is repeated in f64 from the same weights: the difference says how
much of a disagreement may be rounding.

What the numbers of a step are divided by:

- SFTTrainer: the labels of the whole step, over all micro-batches. The label of a row's first token is not counted.
- Every other trainer: the mean over the rows (pairs) of a micro-batch, then the mean over the micro-batches. That is
  the mean over the step's rows, since all micro-batches here have equally many. It is not for a term that is a mean of
  another kind: KTO's KL estimate is a mean over the micro-batch, and ORPO's likelihood term one over its tokens, so
  these two run without accumulation.
- IPO divides each sequence's log-ratio by its number of response tokens before anything else.
- Clipping multiplies by `max_grad_norm / (norm + 1e-6)` where that is below 1; `grad_norm` is the norm before it.

Other traps:

- transformers gives no weight decay to norm weights and biases; `decayed` names the parameters that get it.
- ORPO's likelihood term covers the prompt of the chosen sequence too. SimPO is CPO with `loss_type="simpo"`,
  `cpo_alpha=0`; its margin is `beta * (mean_chosen - mean_rejected) - gamma`.
- KTO pairs each prompt with the response of the row before it in its micro-batch (the first with the last) to estimate
  the KL term: the mean log-ratio of those pairs, not below 0, without gradient.
- The reward model reads its score at the last position whose id is not `pad_token_id`; no row holds that id.
"""

import copy
import json
import os
import pathlib
import tempfile
from importlib.metadata import version

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TRL_EXPERIMENTAL_SILENCE="1")

import torch
from datasets import Dataset, disable_progress_bars
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from transformers.utils.logging import set_verbosity_error
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

HERE = pathlib.Path(__file__).parent / "trajectories"
PAD, UNKNOWN, EOS = 0, 1, 2
# Not used by any run; a checkpoint folder is expected to have one.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ 't03 ' if message['role'] == 'user' else 't04 ' }}{{ message['content'] }}"
    "{{ 't02' }}{% endfor %}{% if add_generation_prompt %}{{ 't04 ' }}{% endif %}"
)
STEPS = 5
COMMON = dict(
    max_steps=STEPS,
    learning_rate=1e-3,
    lr_scheduler_type="constant",
    adam_beta1=0.9,
    adam_beta2=0.999,
    adam_epsilon=1e-8,
    max_grad_norm=1.0,
    train_sampling_strategy="sequential",
    gradient_checkpointing=False,
    bf16=False,
    use_cpu=True,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    logging_strategy="no",
    dataloader_pin_memory=False,
)
ACCUMULATED = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2)
WHOLE = dict(per_device_train_batch_size=4, gradient_accumulation_steps=1)
ROWS = 4 * STEPS


def tokenizer():
    """Id n is the word `tn` in two digits; words stand between blanks."""
    vocabulary = Tokenizer(models.WordLevel({word(n): n for n in range(64)}, unk_token=word(UNKNOWN)))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, pad_token=word(PAD), unk_token=word(UNKNOWN), eos_token=word(EOS),
        chat_template=CHAT_TEMPLATE,
    )


def checkpoints():
    """The policy and the reward model: random, norm weights too."""
    generator = torch.Generator().manual_seed(0)
    shape = dict(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, rope_theta=10000.0,
        pad_token_id=PAD, bos_token_id=None, eos_token_id=EOS,
    )
    policy = LlamaForCausalLM(LlamaConfig(**shape))
    reward = LlamaForSequenceClassification(LlamaConfig(**shape, num_labels=1))
    with torch.no_grad():
        for model in (policy, reward):
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=generator)
                weight.copy_(1 + 0.1 * noise if "norm" in name else 0.25 * noise)
    return policy.float().eval(), reward.float().eval()


def word(n):
    # As many digits for every id: a special token is found inside longer words too.
    return f"t{n:02}"


def words(ids):
    return " ".join(map(word, ids))


def draw(generator, low, high):
    """Between `low` and `high` ids, none of them special."""
    length = int(torch.randint(low, high + 1, (1,), generator=generator))
    return torch.randint(3, 64, (length,), generator=generator).tolist()


def sft_rows(seed):
    """Conversations of one or two turns; the first row of a step is trained from its first token on."""
    generator = torch.Generator().manual_seed(seed)
    ids, masks = [], []
    for row in range(ROWS):
        parts = [(draw(generator, 1, 9), False), (draw(generator, 1, 25) + [EOS], True)]
        if row % 4 == 0:
            parts = parts[1:]
        if row % 4 == 2:
            parts += [(draw(generator, 2, 6), False), (draw(generator, 1, 12) + [EOS], True)]
        ids.append([n for part, _ in parts for n in part])
        masks.append([int(trained) for part, trained in parts for _ in part])
    return Dataset.from_dict({"input_ids": ids, "completion_mask": masks})


def pairs(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = {"prompt": [], "chosen": [], "rejected": []}
    for _ in range(ROWS):
        for name, low, high in (("prompt", 1, 12), ("chosen", 1, 24), ("rejected", 1, 24)):
            end = [] if name == "prompt" else [EOS]
            # The blank keeps prompt and response apart; the tokenizer drops it.
            rows[name].append(words(draw(generator, low, high) + end) + (" " if name == "prompt" else ""))
    return rows


def margins(seed):
    generator = torch.Generator().manual_seed(seed)
    return [float(f"{x:.3f}") for x in torch.rand(ROWS, generator=generator)]


def unpaired(seed):
    source = pairs(seed)
    labels = [row % 4 in (0, 1) or row % 8 == 3 for row in range(ROWS)]
    responses = [source["chosen" if good else "rejected"][row] for row, good in enumerate(labels)]
    return {"prompt": source["prompt"], "completion": responses, "label": labels}


def unpadded(ids, attention_mask):
    return ids[attention_mask.bool()].tolist()


def split(ids, attention_mask, response_mask):
    """Prompt and response of one padded row."""
    ids, marks = unpadded(ids, attention_mask), unpadded(response_mask, attention_mask)
    at = marks.index(1)
    assert all(marks[at:]) and not any(marks[:at]), marks
    return ids[:at], ids[at:]


def pair(prompt, chosen, other_prompt, rejected):
    assert prompt == other_prompt, (prompt, other_prompt)
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def rows_of_sft(batch):
    rows = zip(batch["input_ids"], batch["attention_mask"], batch["labels"])
    return [
        {"ids": unpadded(ids, mask), "trainable": [n != -100 for n in unpadded(labels, mask)]}
        for ids, mask, labels in rows
    ]


def rows_of_dpo(batch):
    both = [split(*row) for row in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])]
    return [pair(*chosen, *rejected) for chosen, rejected in zip(both[: len(both) // 2], both[len(both) // 2 :])]


def rows_of_reward(batch):
    both = [unpadded(*row) for row in zip(batch["input_ids"], batch["attention_mask"])]
    assert not any(PAD in row for row in both)
    rows = []
    for chosen, rejected, margin in zip(both[: len(both) // 2], both[len(both) // 2 :], batch["margin"].tolist()):
        # The trainer sees whole sequences only; what both begin with is the prompt.
        shared = len(os.path.commonprefix([chosen, rejected]))
        row = pair(chosen[:shared], chosen[shared:], rejected[:shared], rejected[shared:])
        rows.append({**row, "margin": margin})
    return rows


def rows_of_kto(batch):
    rows = []
    for row, label in enumerate(batch["label"].tolist()):
        names = ("input_ids", "attention_mask", "completion_mask")
        prompt, response = split(*(batch[name][row] for name in names))
        same, other = split(*(batch[f"KL_{name}"][row] for name in names))
        assert prompt == same, (prompt, same)
        rows.append({"prompt_ids": prompt, "response_ids": response, "desirable": bool(label), "kl_response_ids": other})
    return rows


def rows_of_labelled_pairs(batch):
    def half(name, row):
        names = ("input_ids", "attention_mask", "labels")
        ids, attention_mask, labels = (batch[f"{name}_{part}"][row] for part in names)
        return split(ids, attention_mask, (labels != -100).long())

    return [pair(*half("chosen", row), *half("rejected", row)) for row in range(len(batch["chosen_input_ids"]))]


def runs(policy, reward):
    """Per run: trainer, config, its own settings, batch shape, model, rows, how rows are read from a batch."""
    preference = dict(disable_dropout=True)
    two = Dataset.from_dict(pairs(2))
    scored = Dataset.from_dict({**pairs(3), "margin": margins(3)})
    one_by_one = Dataset.from_dict(unpaired(4))
    return {
        "sft": (SFTTrainer, SFTConfig, dict(weight_decay=0.01, completion_only_loss=True, loss_type="nll"), ACCUMULATED,
                policy, sft_rows(1), rows_of_sft),
        "dpo-sigmoid": (DPOTrainer, DPOConfig, dict(weight_decay=0.0, beta=0.1, loss_type=["sigmoid"], **preference),
                        ACCUMULATED, policy, two, rows_of_dpo),
        "dpo-ipo": (DPOTrainer, DPOConfig, dict(weight_decay=0.0, beta=0.1, loss_type=["ipo"], **preference),
                    ACCUMULATED, policy, two, rows_of_dpo),
        "reward": (RewardTrainer, RewardConfig,
                   dict(weight_decay=0.0, center_rewards_coefficient=0.01, disable_dropout=True), ACCUMULATED, reward,
                   scored, rows_of_reward),
        "kto": (KTOTrainer, KTOConfig,
                dict(weight_decay=0.0, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5, loss_type="kto",
                     **preference), WHOLE, policy, one_by_one, rows_of_kto),
        "orpo": (ORPOTrainer, ORPOConfig, dict(weight_decay=0.0, beta=0.1, remove_unused_columns=False, **preference),
                 WHOLE, policy, two, rows_of_labelled_pairs),
        "simpo": (CPOTrainer, CPOConfig,
                  dict(weight_decay=0.0, beta=2.0, simpo_gamma=0.5, cpo_alpha=0.0, loss_type="simpo",
                       remove_unused_columns=False, **preference), ACCUMULATED, policy, two, rows_of_labelled_pairs),
    }


def train(run, dtype):
    """The trained model, its steps, and the names of the parameters that decay."""
    trainer_class, config_class, own, shape, source, rows, read = run
    model = copy.deepcopy(source).to(dtype)
    micro, norms = [], []

    class Recording(trainer_class):
        def training_step(self, model, inputs, *args, **kwargs):
            seen = read(inputs)
            # Already divided by what the step divides by: the sum over a step is the loss that is differentiated.
            loss = super().training_step(model, inputs, *args, **kwargs)
            micro.append({"rows": seen, "loss": float(loss.detach())})
            return loss

        def _clip_grad_norm(self, model):
            norm = super()._clip_grad_norm(model)
            norms.append(float(norm.detach()))
            return norm

    reference = {"ref_model": copy.deepcopy(model)} if trainer_class in (DPOTrainer, KTOTrainer) else {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Recording(
            model=model,
            args=config_class(output_dir=folder, **COMMON, **shape, **own),
            train_dataset=rows,
            processing_class=tokenizer(),
            **reference,
        )
        trainer.train()
    groups = trainer.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} <= {own["weight_decay"], 0.0}
    decays = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    decayed = [name for name, p in trainer.model.named_parameters() if id(p) in decays]

    per_step = shape["gradient_accumulation_steps"]
    assert len(norms) == STEPS and len(micro) == STEPS * per_step, (len(norms), len(micro))
    steps = []
    for step, norm in enumerate(norms):
        parts = micro[step * per_step : (step + 1) * per_step]
        steps.append({
            "loss": sum(part["loss"] for part in parts),
            "grad_norm": norm,
            "micro_batches": [{"loss": part["loss"], "rows": part["rows"]} for part in parts],
        })
    return trainer.model, steps, decayed


def largest_difference(ours, exact):
    """Over tensors, the largest `|a - b| / |b|` of whole tensors (2-norm)."""
    return max(float((ours[name].detach().double() - exact[name]).norm() / exact[name].norm()) for name in exact)


def main():
    set_verbosity_error()
    disable_progress_bars()
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    policy, reward = checkpoints()
    for name, model in (("policy", policy), ("reward-model", reward)):
        model.save_pretrained(HERE / name)
        (HERE / name / "generation_config.json").unlink(missing_ok=True)
        tokenizer().save_pretrained(HERE / name)
    packages = ("torch", "transformers", "trl", "accelerate")
    out = {"versions": {name: version(name) for name in packages}, "settings": COMMON, "runs": {}}
    for name, run in runs(policy, reward).items():
        model, steps, decayed = train(run, torch.float32)
        exact, exact_steps, _ = train(run, torch.float64)
        assert json.dumps([step_rows(s) for s in steps]) == json.dumps([step_rows(s) for s in exact_steps])
        weights = {key: weight.detach().clone() for key, weight in model.named_parameters()}
        exact = {key: weight.detach() for key, weight in exact.named_parameters()}
        start = dict(run[4].named_parameters())
        save_file(weights, HERE / f"{name}.safetensors")
        out["runs"][name] = {
            "trainer": run[0].__name__,
            "model": "reward-model" if run[4] is reward else "policy",
            "settings": {**run[2], **run[3]},
            "decayed": decayed,
            "weights": f"{name}.safetensors",
            "moved": largest_difference(start, exact),
            "rounding": {
                "loss": max(abs(a["loss"] - b["loss"]) for a, b in zip(steps, exact_steps)),
                "grad_norm": max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(steps, exact_steps)),
                "weights": largest_difference(weights, exact),
            },
            "steps": steps,
        }
        shown = out["runs"][name]
        print(name, [round(s["loss"], 5) for s in steps], [round(s["grad_norm"], 3) for s in steps],
              shown["moved"], shown["rounding"])
    (HERE / "trajectories.json").write_text(json.dumps(out) + "\n")


def step_rows(step):
    return [part["rows"] for part in step["micro_batches"]]


main()
