"""Writes the event files that the tests compare with and read. Run in this folder with `tensorboard` installed.

simple.tfevents: what our writer must produce byte for byte.
mixed.tfevents: value kinds of other writers, with a text summary to skip and a repeated step.
"""

import struct

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

START = 1_700_000_000.0
Value = summary_pb2.Summary.Value
SCALAR = tensor_shape_pb2.TensorShapeProto()


def event(seconds, step=0, values=None, **fields):
    if values is not None:
        fields["summary"] = summary_pb2.Summary(value=values)
    return event_pb2.Event(wall_time=START + seconds, step=step, **fields)


def write(path, events):
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for item in events:
            writer.write(item.SerializeToString())


def tensor(tag, **fields):
    return Value(tag=tag, tensor=tensor_pb2.TensorProto(**fields))


version = event(0.0, file_version="brain.Event:2")
restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
write(
    "simple.tfevents",
    [
        version,
        event(1.5, 0, [Value(tag="train/loss_mean", simple_value=2.5)]),
        event(
            2.25,
            300,
            [Value(tag="eval/eval gpt_loss", simple_value=-0.125), Value(tag="train/lr", simple_value=1e-5)],
        ),
        event(3.0, 200, session_log=restart),
    ],
)

dims = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=3)])
one = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
write(
    "mixed.tfevents",
    [
        version,
        event(1.0, 1, [Value(tag="simple", simple_value=0.5)]),
        event(2.0, 1, [tensor("float_val", dtype=types_pb2.DT_FLOAT, tensor_shape=SCALAR, float_val=[1.25])]),
        event(
            3.0,
            1,
            [tensor("content", dtype=types_pb2.DT_FLOAT, tensor_shape=SCALAR, tensor_content=struct.pack("<f", 7.5))],
        ),
        event(4.0, 1, [tensor("double", dtype=types_pb2.DT_DOUBLE, tensor_shape=one, double_val=[0.1])]),
        event(5.0, 1, [tensor("text", dtype=types_pb2.DT_STRING, tensor_shape=one, string_val=[b"skipped"])]),
        event(6.0, 1, [tensor("vector", dtype=types_pb2.DT_FLOAT, tensor_shape=dims, float_val=[1.0])]),
        event(7.0, 2, [Value(tag="simple", simple_value=float("nan"))]),
        event(8.0, 1, [Value(tag="simple", simple_value=0.75)]),
        event(9.0, 123456789012, [Value(tag="a tag with spaces", simple_value=-3.0)]),
    ],
)
