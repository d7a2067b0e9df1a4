"""Writes distillation.json: values and gradients of TRL's generalised Jensen-Shannon loss and OpenRLHF's distillation loss.

    python distillation.py OPENRLHF_0_8_FOLDER     (an unpacked wheel; TRL is imported from the environment)

OpenRLHF's class is read from the wheel's source, since later versions have none and its package does not import here.
"""

import json
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trl
from trl.experimental.gkd import GKDTrainer

OPENRLHF = Path(sys.argv[1])
random = np.random.default_rng(20260403)
cases = []


def add(reference, divergence, temperature, loss, student, teacher, labels):
    loss.backward()
    finite = lambda x: [None if np.isinf(v) else float(f"{v:.12g}") for v in x.detach().double().numpy().ravel()]
    cases.append({
        "reference": reference, "divergence": divergence, "temperature": temperature, "shape": list(student.shape),
        "student": finite(student), "teacher": finite(teacher), "labels": labels.ravel().tolist(), "loss": loss.item(),
        "gradient": finite(student.grad),
    })


def logits(dtype):
    pair = [torch.tensor(np.float32(random.normal(size=(2, 4, 17)) * 2), dtype=dtype) for _ in range(2)]
    labels = torch.tensor(random.integers(0, 17, size=(2, 4)))
    labels[0, 0] = labels[1, 2] = -100
    return pair[0].requires_grad_(), pair[1], labels


for beta in (0.0, 0.1, 0.5, 0.9, 1.0):
    for temperature in (1.0, 0.9, 2.5):
        student, teacher, labels = logits(torch.float64)
        loss = GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta=beta, temperature=temperature)
        add("TRL", beta, temperature, loss, student, teacher, labels)

source = next(OPENRLHF.rglob("openrlhf/models/loss.py")).read_text()
source = source[source.index("class KDLoss"):source.index("class PRMLoss")]
names = {"nn": torch.nn, "torch": torch, "F": F}
exec(source, names)
for infinite in (False, True):
    student, teacher, labels = logits(torch.float32)
    if infinite:
        student = student.detach()
        student[0, 1, 5] = student[1, 3, 5] = -torch.inf
        student.requires_grad_()
    loss = names["KDLoss"]()(student, teacher, labels)
    add("OpenRLHF", "cross_entropy", 1.0, loss, student, teacher, labels)

versions = {"TRL": trl.__version__, "torch": torch.__version__.split("+")[0],
            "OpenRLHF": PathDistribution(next(OPENRLHF.glob("openrlhf-*.dist-info"))).version}
lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
text = f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n'
Path(__file__).with_suffix(".json").write_text(text)
print(len(cases), "cases", len(text), "bytes")
