"""Turns Keras weights of ResNet50V2 into a .safetensors file that this crate loads.

    KERAS_BACKEND=torch python keras_to_safetensors.py INPUT OUTPUT.safetensors [--top]

INPUT is a `.keras` model, a `.weights.h5` or `.h5` weight file of keras.applications.ResNet50V2, or the word `imagenet`
(Keras downloads its published weights). A model may contain the encoder anywhere inside, as the Keras example's do.
Without --top the encoder alone is written; --top adds the classifier of a full ResNet50V2 as `fc.weight`, `fc.bias`.

Needs keras, numpy and safetensors. Layouts: kernels [kh, kw, in, out] become [out, in, kh, kw], dense kernels [in, out]
become [out, in]; the names are `<Keras layer>.<suffix>` with the suffixes below.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

SUFFIXES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def from_keras(value):
    """A Keras array in PyTorch's layout."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.ascontiguousarray(value if axes is None else value.transpose(axes))


def is_encoder_layer(name):
    return name in ("conv1_conv", "post_bn") or (name.startswith("conv") and "_block" in name)


def layers_of(model):
    """Every layer, inside nested models too."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


def convert(model, top=False):
    import keras

    tensors = {}
    for layer in layers_of(model):
        name = layer.name
        if top and name == "predictions":
            name = "fc"
        elif not is_encoder_layer(name):
            continue
        for variable in layer.weights:
            value = keras.ops.convert_to_numpy(variable).astype(np.float32)
            tensors[f"{name}.{SUFFIXES[variable.name]}"] = from_keras(value)
    encoder = sum(t.size for n, t in tensors.items() if not n.startswith("fc."))
    if encoder != 23_564_800:
        raise SystemExit(f"found {encoder:,} encoder values, a ResNet50V2 has 23,564,800: is the input a ResNet50V2?")
    return tensors


def open_model(path, top):
    import keras

    if path.endswith(".keras"):
        return keras.models.load_model(path, compile=False)
    weights = "imagenet" if path == "imagenet" else None
    pooling = {} if top else {"pooling": "avg"}
    model = keras.applications.ResNet50V2(include_top=top, weights=weights, **pooling)
    if weights is None:
        model.load_weights(path)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--top", action="store_true")
    args = parser.parse_args()
    from safetensors.numpy import save_file

    tensors = convert(open_model(args.input, args.top), args.top)
    save_file(tensors, args.output, metadata={"format": "pt", "source": os.path.basename(args.input)})
    print(f"{args.output}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
