"""Runs an ONNX model with onnxruntime and compares it with what the program computed.

    python onnx_check.py CASE.json

CASE.json: {"model": path, "images": tensor, "expected": {output name: tensor}, "tolerance": relative to the largest expected value};
a tensor is {"shape": [...], "file": path of little-endian f32}. "softmax": outputs that are compared after a softmax.
Tested with onnxruntime 1.32.0, numpy 2.4.6; with onnx 1.23.2, where it is installed, the model is checked against the format too.
"""

import json
import sys

import numpy
import onnxruntime

case = json.load(open(sys.argv[1]))


def load(tensor):
    return numpy.fromfile(tensor["file"], "<f4").reshape(tensor["shape"])


try:
    import onnx

    onnx.checker.check_model(case["model"], full_check=True)
    print("onnx.checker: sound")
except ImportError:
    print("onnx.checker: not installed")

session = onnxruntime.InferenceSession(case["model"], providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape
assert session.get_inputs()[0].name == "images" and isinstance(shape[0], str), shape
names = [output.name for output in session.get_outputs()]
assert names == list(case["expected"]), names

images = load(case["images"])
whole = session.run(names, {"images": images})
# The batch is dynamic: one image alone is the first of many.
alone = session.run(names, {"images": images[:1]})
worst = {}
for name, got, first in zip(names, whole, alone):
    if name in case.get("softmax", []):
        got, first = (numpy.exp(x - x.max(1, keepdims=True)) for x in (got, first))
        got, first = (x / x.sum(1, keepdims=True) for x in (got, first))
    expected = load(case["expected"][name])
    assert got.shape == expected.shape, (name, got.shape, expected.shape)
    scale = numpy.abs(expected).max()
    worst[name] = float(max(numpy.abs(got - expected).max(), numpy.abs(first - expected[:1]).max()) / scale)
print(json.dumps(worst))
assert scale > 0 and all(value <= case["tolerance"] for value in worst.values()), (worst, case["tolerance"])
