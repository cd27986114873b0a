"""The step that `cargo xtask bench` measures, in plain PyTorch, to be measured beside it.

torchvision's ResNets on 32x32 images, channels_last, forward + backward + SGD (momentum 0.9, weight decay 5e-4) or
features in evaluation mode; or views of PIL images by torchvision's transforms with SupContrast's settings. Asked line by line on standard input (the first
line says what), answers line by line on standard output, so that a caller can alternate it with something else:

  {"network": "r50", "batch": 128, "precision": "f32", "task": "train", "threads": 2}   ->  {"ready": ..., versions}
  {"steps": 3}                                                                         ->  {"seconds": 1.23, "loss": 2.3}
  {"memory": true}                                                                     ->  {"peak_bytes": 123456}

Tasks: train, features, data (batch views per step; no network, no precision). `peak_bytes` is the process's peak resident
memory above what it held before batch and network were made (null where the system does not tell: not Linux).
End of input ends it. Needs torch and torchvision.
"""

import json
import sys
import time

import torch
import torchvision
from torch import nn


def network(name):
    """The networks of `bench`, with ten classes."""
    make = torchvision.models.resnet18 if name == "r18-cifar" else torchvision.models.resnet50
    net = make(weights=None, num_classes=10)
    if name.endswith("-cifar"):
        net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()
    return net.to(memory_format=torch.channels_last)


def memory(field):
    """A line of /proc/self/status, in bytes."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
    except (OSError, StopIteration):
        return None


def forget_peak():
    """Lets the peak begin anew: what the imports took for a moment is not the step's."""
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    except OSError:
        pass


def train_step(net, images, labels, bf16):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(net(images).float(), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def feature_step(net, images, bf16):
    net.eval()
    net.fc = nn.Identity()

    @torch.inference_mode()
    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return net(images).float().mean()

    return step


def data_step(count):
    from PIL import Image
    from torchvision import transforms

    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8).numpy()
    photographs = [Image.fromarray(image) for image in pixels]
    return lambda: torch.stack([view(image) for image in photographs]).mean()


def main():
    request = json.loads(sys.stdin.readline())
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    forget_peak()
    before = memory("VmRSS:")
    bf16 = request.get("precision") == "bf16"
    if request["task"] == "data":
        step = data_step(request["batch"])
    else:
        images = torch.randn(request["batch"], 3, 32, 32).to(memory_format=torch.channels_last)
        labels = torch.arange(request["batch"]) % 10
        net = network(request["network"])
        if request["task"] == "train":
            step = train_step(net, images, labels, bf16)
        else:
            step = feature_step(net, images, bf16)
    step()
    ready = {
        "ready": True,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "memory" in request:
            peak = memory("VmHWM:")
            print(json.dumps({"peak_bytes": peak - before if peak else None}), flush=True)
            continue
        begun = time.perf_counter()
        for _ in range(request["steps"]):
            loss = step().item()
        print(json.dumps({"seconds": time.perf_counter() - begun, "loss": loss}), flush=True)


if __name__ == "__main__":
    main()
