"""The `keras`-like experiment in plain PyTorch: what our own run is compared with, epoch by epoch.

Two arms on CIFAR-10 with one encoder (torchvision's ResNet-50, ImageNet stem, 32x32 input, no fc):

  baseline     encoder -> Dropout .5 -> Linear 512 -> ReLU -> Dropout .5 -> Linear 10, cross-entropy,
               everything trained together for E epochs.
  contrastive  encoder -> Linear 128 -> ReLU -> L2-normalise -> Z Z^T / 0.05 -> npairs, E epochs
               (stage "pretrain"); then the encoder is frozen in evaluation mode and the same
               512-unit head is trained for H epochs (stage "head"). To keep it cheap the head is
               trained on features computed once per image, without augmentation.

Batch 265 with the last incomplete batch dropped, Adam 1e-3 with eps 1e-7 (Keras's value; PyTorch's
defaults otherwise), one augmented view per image: horizontal flip with p = 1/2, then rotation by a
uniform angle within +-0.02 turn (bilinear, edges reflected). Pixels are normalised per channel with
the mean and the standard deviation of the training images. Batch norm is PyTorch's (momentum 0.1,
eps 1e-5); initialisation is torchvision's for the encoder and nn.Linear's default for the heads.

Data: the last 500 training images of every class in file order are the validation split; of the 45,000 left
the first 25,000 (--limit) train; the same for every seed. The test split is whole.
Test is read once, after all training of an arm.

Needs torch, torchvision, numpy, pyarrow, pillow. One JSON line per epoch is appended to --out.

  python assets/parity/reference.py --data-dir DIR --seed 0 --out reference.jsonl
"""

import argparse
import io
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn

CLASSES = 10
VALIDATION_PER_CLASS = 500
BATCH = 265
TEMPERATURE = 0.05
MAX_TURN = 0.02


# ---------------------------------------------------------------- data

def read_split(data_dir, split):
    """u8 images [N, 3, 32, 32] and int64 labels [N] of one split of a Hub-layout folder."""
    files = sorted(Path(data_dir).glob(f"**/{split}-*.parquet"))
    if not files:
        raise SystemExit(f"no {split}-*.parquet under {data_dir}")
    images, labels = [], []
    for file in files:
        table = pq.read_table(file, columns=["img", "label"])
        encoded = [cell["bytes"] for cell in table["img"].to_pylist()]
        with ThreadPoolExecutor(2) as pool:
            images += pool.map(lambda b: np.asarray(Image.open(io.BytesIO(b)).convert("RGB")), encoded)
        labels += table["label"].to_pylist()
    images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels)


def validation_split(labels):
    """Indices of (train, validation): validation is the last 500 images of each class in file order."""
    validation = torch.cat([(labels == c).nonzero()[-VALIDATION_PER_CLASS:, 0] for c in range(CLASSES)])
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[validation] = False
    return keep.nonzero()[:, 0], validation.sort().values


class Normalise:
    """Per-channel mean and standard deviation, fitted on the training images."""

    def __init__(self, images):
        flat = images.permute(1, 0, 2, 3).reshape(3, -1)
        # f64 sums over u8 values are exact.
        mean = torch.stack([c.double().mean() for c in flat]) / 255
        var = torch.stack([(c.double() / 255).var(correction=0) for c in flat])
        self.mean = mean.float().view(1, 3, 1, 1)
        self.std = var.sqrt().float().view(1, 3, 1, 1)

    def __call__(self, u8):
        return ((u8.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def augment(x, generator):
    """Flip with p = 1/2, then rotate about the centre by U(-0.02, 0.02) turn, edges reflected."""
    n = len(x)
    flip = torch.rand(n, generator=generator) < 0.5
    x = torch.where(flip.view(n, 1, 1, 1), x.flip(3), x)
    angle = (torch.rand(n, generator=generator) * 2 - 1) * MAX_TURN * 2 * torch.pi
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(n)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- models

def new_encoder():
    encoder = torchvision.models.resnet50(weights=None)
    encoder.fc = nn.Identity()
    return encoder.to(memory_format=torch.channels_last)


def new_head():
    return nn.Sequential(
        nn.Dropout(0.5), nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, CLASSES)
    )


def npairs(z, labels):
    """TensorFlow Addons' npairs_loss over Z Z^T / tau: same-label targets, each row divided by its sum."""
    z = F.normalize(z, dim=1)
    similarity = z @ z.T / TEMPERATURE
    target = (labels[:, None] == labels[None, :]).float()
    target = target / target.sum(1, keepdim=True)
    return -(target * F.log_softmax(similarity, 1)).sum(1).mean()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)


# ---------------------------------------------------------------- training

def batches(n, generator):
    """One epoch of shuffled index batches; the last incomplete one is dropped."""
    order = torch.randperm(n, generator=generator)
    for first in range(0, n - BATCH + 1, BATCH):
        yield order[first:first + BATCH]


def train_epoch(module, loss_fn, inputs, labels, optimiser, generator):
    """Mean over the epoch's steps of the training loss. `inputs(index)` makes the batch."""
    module.train()
    total, steps = 0.0, 0
    for index in batches(len(labels), generator):
        loss = loss_fn(module(inputs(index)), labels[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total, steps = total + loss.item(), steps + 1
        if steps % 20 == 0:
            print(f"    step {steps}: mean loss {total / steps:.4f}", flush=True)
    return total / steps


@torch.no_grad()
def predict(module, images, normalise):
    """The outputs of `module` in evaluation mode, without augmentation."""
    module.eval()
    return torch.cat([module(normalise(chunk)) for chunk in images.split(500)])


def accuracy(logits, labels):
    return (logits.argmax(1) == labels).double().mean().item()


# ---------------------------------------------------------------- the two arms

class Run:
    def __init__(self, args):
        self.args = args
        images, labels = read_split(args.data_dir, "train")
        train, validation = validation_split(labels)
        if args.limit:
            train, validation = train[:args.limit], validation[:args.limit]
        self.images, self.labels = images[train], labels[train]
        self.val_images, self.val_labels = images[validation], labels[validation]
        self.normalise = Normalise(self.images)

    def test(self):
        images, labels = read_split(self.args.data_dir, "test")
        return (images[:self.args.limit], labels[:self.args.limit]) if self.args.limit else (images, labels)

    def write(self, **line):
        with open(self.args.out, "a") as out:
            out.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def augmented(self, generator):
        return lambda index: augment(self.normalise(self.images[index]), generator)

    def baseline(self, seed):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        model = nn.Sequential(new_encoder(), new_head())
        optimiser = adam(model.parameters())
        for epoch in range(1, self.args.epochs + 1):
            start = time.time()
            loss = train_epoch(model, F.cross_entropy, self.augmented(generator), self.labels, optimiser, generator)
            top1 = accuracy(predict(model, self.val_images, self.normalise), self.val_labels)
            self.write(arm="baseline", stage="supervised", seed=seed, epoch=epoch, train_loss=loss,
                       validation_top1=top1, seconds=round(time.time() - start, 1))
        images, labels = self.test()
        top1 = accuracy(predict(model, images, self.normalise), labels)
        self.write(arm="baseline", stage="test", seed=seed, test_top1=top1)

    def contrastive(self, seed):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(2000 + seed)
        encoder = new_encoder()
        model = nn.Sequential(encoder, nn.Linear(2048, 128), nn.ReLU())
        optimiser = adam(model.parameters())
        for epoch in range(1, self.args.epochs + 1):
            start = time.time()
            loss = train_epoch(model, npairs, self.augmented(generator), self.labels, optimiser, generator)
            self.write(arm="contrastive", stage="pretrain", seed=seed, epoch=epoch, train_loss=loss,
                       seconds=round(time.time() - start, 1))

        features = predict(encoder, self.images, self.normalise)
        val_features = predict(encoder, self.val_images, self.normalise)
        head = new_head()
        optimiser = adam(head.parameters())
        for epoch in range(1, self.args.head_epochs + 1):
            start = time.time()
            loss = train_epoch(head, F.cross_entropy, lambda index: features[index], self.labels, optimiser, generator)
            with torch.no_grad():
                top1 = accuracy(head.eval()(val_features), self.val_labels)
            self.write(arm="contrastive", stage="head", seed=seed, epoch=epoch, train_loss=loss,
                       validation_top1=top1, seconds=round(time.time() - start, 1))
        images, labels = self.test()
        top1 = accuracy(predict(nn.Sequential(encoder, head), images, self.normalise), labels)
        self.write(arm="contrastive", stage="test", seed=seed, test_top1=top1)


def cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder with train-*.parquet and test-*.parquet (Hub layout)")
    parser.add_argument("--out", required=True, help="JSON lines are appended here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of the baseline and of the pretraining")
    parser.add_argument("--head-epochs", type=int, default=5)
    parser.add_argument("--arms", nargs="+", default=["baseline", "contrastive"], choices=["baseline", "contrastive"])
    parser.add_argument("--limit", type=int, default=25000, help="at most N images of each split; 0: all of them")
    args = parser.parse_args()

    run = Run(args)
    run.write(
        environment=dict(torch=torch.__version__, torchvision=torchvision.__version__, numpy=np.__version__,
                         python=platform.python_version(), cpu=cpu_model(), cores=os.cpu_count(),
                         threads=torch.get_num_threads(), device="cpu", dtype="float32"),
        settings=dict(epochs=args.epochs, head_epochs=args.head_epochs, batch=BATCH, limit=args.limit,
                      train=len(run.labels), validation=len(run.val_labels),
                      mean=run.normalise.mean.flatten().tolist(), std=run.normalise.std.flatten().tolist()),
        seed=args.seed,
    )
    for arm in args.arms:
        getattr(run, arm)(args.seed)


if __name__ == "__main__":
    main()
