"""Writes preference.json: values and gradients of the preference and reward losses of TRL and OpenRLHF.

    python preference.py OPENRLHF_FOLDER     (an unpacked wheel; TRL is imported from the environment)

Every number comes from the reference's own method. Where a loss sits inside a trainer's step, that step runs with a stub
for the trainer and a stub model that returns given log-probabilities, so that nothing is copied.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import trl
from trl.trainer.reward_trainer import RewardTrainer

random = np.random.default_rng(20260401)
cases = []


def tensor(values, grad=False):
    return torch.tensor(np.asarray(values), dtype=torch.float64, requires_grad=grad)


def trainer(**fields):
    """What a trainer's loss method reads of its trainer: one process, evaluation mode."""
    same = lambda x: x
    accelerator = SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same)
    common = {
        "accelerator": accelerator, "model": SimpleNamespace(training=False), "_total_train_tokens": 0,
        "_metrics": defaultdict(lambda: defaultdict(list)), "aux_loss_enabled": False,
    }
    return SimpleNamespace(**{**common, **fields})


def add(objective, reference, loss, inputs, gradients, **settings):
    loss.backward()
    as_list = lambda x: x.tolist() if isinstance(x, torch.Tensor) else np.asarray(x).tolist()
    cases.append({
        "objective": objective, "reference": reference, "settings": settings,
        "inputs": {name: as_list(value.detach() if isinstance(value, torch.Tensor) else value) for name, value in inputs.items()},
        "loss": loss.item(), "gradients": {name: as_list(value.grad) for name, value in gradients.items()},
    })


def reward_rows():
    for margins, centering in ((False, None), (True, None), (False, 0.01), (True, 0.05)):
        logits = tensor(random.normal(size=(16, 1)) * 2, grad=True)
        inputs = {"attention_mask": torch.ones(16, 3)}
        margin = tensor(random.uniform(0, 2, size=8))
        if margins:
            inputs["margin"] = margin
        stub = trainer(args=SimpleNamespace(center_rewards_coefficient=centering))
        loss = RewardTrainer.compute_loss(stub, lambda **_: SimpleNamespace(logits=logits), inputs)
        rewards = {"rewards": logits}
        add("bradley_terry", "TRL RewardTrainer", loss, {**rewards, **({"margins": margin} if margins else {})}, rewards,
            centering_coef=centering or 0.0)
        cases[-1]["accuracy"] = stub._metrics["eval"]["accuracy"][0]


reward_rows()
fixture = {"versions": {"TRL": trl.__version__, "torch": torch.__version__}, "cases": cases}
lines = ",\n".join(json.dumps(case) for case in cases)
text = f'{{"versions": {json.dumps(fixture["versions"])}, "cases": [\n{lines}\n]}}\n'
Path(__file__).with_suffix(".json").write_text(text)
print(len(cases), "cases")
