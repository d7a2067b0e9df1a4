"""Reads an event folder with TensorBoard's own reader and prints what it finds: `check_events.py FOLDER`."""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in events.Tags()["scalars"]:
    print(tag, [(item.step, item.value) for item in events.Scalars(tag)])
