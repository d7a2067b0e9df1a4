"""Starts an MLflow server, has our sender send to it, and compares what the server then has: `check_mlflow.py`.

Run in this folder with mlflow installed. Last passed with mlflow 3.17.2.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import mlflow
from mlflow.tracking import MlflowClient

URI = "http://127.0.0.1:5617"
folder = tempfile.mkdtemp()
print("mlflow", mlflow.__version__)
server = subprocess.Popen(
    [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "5617", "--workers", "1"]
    + ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", folder],
    cwd=folder,
)
try:
    for attempt in range(240):
        try:
            urllib.request.urlopen(f"{URI}/health")
            break
        except OSError:
            time.sleep(0.5)
    test = ["cargo", "test", "-p", "rl-track", "--features", "mlflow", "--test", "it", "mlflow::rows_for_a_real_server"]
    subprocess.run(test, check=True, env={**os.environ, "RL_TRACK_TEST_MLFLOW": URI})
    client = MlflowClient(tracking_uri=URI)
    experiment = client.get_experiment_by_name("a name with spaces")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED"), run.info
    assert run.data.params == {f"key{index}": str(index) for index in range(230)}
    assert run.data.tags["seed.train"] == "3", run.data.tags
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in loss] == [(step, 1 / step) for step in range(1, 501)]
    assert len(client.get_metric_history(run.info.run_id, "train/seconds")) == 500
    bad = client.get_metric_history(run.info.run_id, "train/bad_name_")
    assert len(bad) == 500 and all(math.isnan(metric.value) or metric.value == 0 for metric in bad)
    print("the server has every row")
finally:
    server.terminate()
    server.wait()
