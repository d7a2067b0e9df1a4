"""Opens a run and its exports with the trackers themselves and compares what they read: `check_exports.py FOLDER`.

FOLDER is what the test `folders_for_the_other_trackers` leaves: run/, metrics.csv, mlruns/. Last passed with the versions
that it prints: mlflow-skinny 3.17.2, trackio 0.43.0, tbparse 0.0.9, wandb 0.31.0.
"""

import importlib.metadata
import os
import sys
import tempfile

folder = os.path.abspath(sys.argv[1])
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp()
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
for package in ["mlflow-skinny", "trackio", "tbparse", "wandb"]:
    print(package, importlib.metadata.version(package))
LOSS = [(1, 1.0), (2, 0.5), (3, 1 / 3)]

from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri=f"file://{folder}/mlruns")
experiment = client.get_experiment_by_name("our experiment")
(run,) = client.search_runs([experiment.experiment_id])
assert run.info.run_name == "run" and run.info.status == "FINISHED", run.info
assert run.data.params == {"seed": "5", "optimizer.learning_rate": "0.0001"}, run.data.params
assert run.data.tags["seed.seed"] == "5" and run.data.tags["input.data"] == "aa", run.data.tags
history = client.get_metric_history(run.info.run_id, "train/loss")
assert [(metric.step, metric.value) for metric in history] == LOSS, history
assert history[0].timestamp == 1_700_000_001_250
assert client.get_metric_history(run.info.run_id, "eval/bad")[0].value == float("inf")
print("MLflow reads the file store")

import trackio
from trackio.sqlite_storage import SQLiteStorage


def logged(project, name):
    rows = SQLiteStorage.get_logs(project, name)
    return [(row["step"], row["train/loss"]) for row in rows if row.get("train/loss") is not None]


trackio.import_csv(f"{folder}/metrics.csv", project="table", name="run")
assert logged("table", "run") == LOSS, logged("table", "run")
print("Trackio imports the table")
trackio.import_tf_events(f"{folder}/run", project="events", name="run")
names = SQLiteStorage.get_runs("events")
(name,) = names
single = [(step, round(value, 6)) for step, value in logged("events", name)]
assert single == [(step, round(value, 6)) for step, value in LOSS], single
print("Trackio imports the event files")

import wandb

assert callable(wandb.Api.sync_tensorboard)
print("Weights & Biases still has its importer of event files; it needs an account, so it is not called")
