"""Prints what TensorBoard's own reader finds in an event folder, one `tag step value` a line: `check_events.py FOLDER`.

The test `tensorboards_own_reader_finds_the_same_scalars` compares it with our reader's. Last passed with tensorboard 2.21.0.
"""

import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()


def text(value):
    """A float as Rust's Debug writes it."""
    if value != value:
        return "NaN"
    return repr(value).replace("e-0", "e-")


for tag in sorted(events.Tags()["scalars"]):
    for item in events.Scalars(tag):
        print(tag, item.step, text(item.value))
