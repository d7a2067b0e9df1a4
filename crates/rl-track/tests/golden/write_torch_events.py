"""Writes torch.tfevents, which the tests read: scalars of torch's SummaryWriter, plain and as tensors.

Run in this folder with torch 2.11.0 and tensorboard 2.21.0.
"""

import glob
import os
import shutil
import tempfile

import torch
from torch.utils.tensorboard import SummaryWriter

folder = tempfile.mkdtemp()
writer = SummaryWriter(folder)
for step in range(4):
    writer.add_scalar("train/loss", 1.0 / (step + 1), step, walltime=1_700_000_000.0 + step)
    writer.add_scalar("train/new style", 0.1 * step, step, new_style=True, walltime=1_700_000_000.5 + step)
    writer.add_scalar("train/double", torch.tensor(0.1 * step, dtype=torch.float64), step, new_style=True, double_precision=True, walltime=1_700_000_000.75 + step)
writer.add_scalar("eval/bad", float("nan"), 2, walltime=1_700_000_010.0)
writer.add_scalar("eval/bad", float("-inf"), 3, walltime=1_700_000_011.0)
writer.add_text("note", "left out", 1, walltime=1_700_000_012.0)
writer.add_histogram("weights", torch.arange(10.0), 1, walltime=1_700_000_013.0)
writer.add_scalar("train/loss", 7.0, 2**40, walltime=1_700_000_014.0)
writer.close()
(path,) = glob.glob(os.path.join(folder, "*"))
shutil.copy(path, "torch.tfevents")
