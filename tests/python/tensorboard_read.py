"""Prints, as JSON, what TensorBoard's own reader finds in a run folder.

    python tensorboard_read.py RUN

Tested with tensorboard 2.21.0.
"""

import json
import os
import struct
import sys

from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import projector_config_pb2

run = sys.argv[1]
# Everything: no sampling.
reader = EventAccumulator(run, size_guidance={kind: 0 for kind in ("scalars", "histograms", "images", "compressedHistograms", "tensors")})
reader.Reload()
tags = reader.Tags()

config = projector_config_pb2.ProjectorConfig()
with open(os.path.join(run, "projector_config.pbtxt")) as file:
    text_format.Parse(file.read(), config)
projector = []
for embedding in config.embeddings:
    with open(os.path.join(run, embedding.tensor_path)) as file:
        rows = [[float(x) for x in line.rstrip("\n").split("\t")] for line in file]
    with open(os.path.join(run, embedding.metadata_path)) as file:
        metadata = [line.rstrip("\n").split("\t") for line in file]
    with open(os.path.join(run, embedding.sprite.image_path), "rb") as file:
        sprite = struct.unpack(">II", file.read(24)[16:])
    projector.append(
        {
            "name": embedding.tensor_name,
            "rows": rows,
            "metadata": metadata,
            "sprite": sprite,
            "tile": list(embedding.sprite.single_image_dim),
        }
    )


def histogram(event):
    value = event.histogram_value
    return {
        "step": event.step,
        "min": value.min,
        "max": value.max,
        "num": value.num,
        "sum": value.sum,
        "limits": list(value.bucket_limit),
        "counts": list(value.bucket),
    }


def image(event):
    png = event.encoded_image_string
    assert png.startswith(b"\x89PNG"), png[:8]
    return {"step": event.step, "size": [event.width, event.height], "png": struct.unpack(">II", png[16:24])}


print(
    json.dumps(
        {
            "scalars": {tag: [[e.step, e.value] for e in reader.Scalars(tag)] for tag in tags["scalars"]},
            "histograms": {tag: [histogram(e) for e in reader.Histograms(tag)] for tag in tags["histograms"]},
            "images": {tag: [image(e) for e in reader.Images(tag)] for tag in tags["images"]},
            "projector": projector,
        }
    )
)
