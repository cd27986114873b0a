"""Loads a file of this crate strictly into torchvision's network.

    python load_in_pytorch.py FILE.safetensors resnet50 [--cifar]

FILE holds encoder and classifier (`examples/new_weights.rs` writes one). Needs torch, torchvision and safetensors.
"""

import argparse

import torch
import torchvision
from safetensors.torch import load_file

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("file")
parser.add_argument("arch")
parser.add_argument("--cifar", action="store_true", help="3x3 stem without max-pool")
args = parser.parse_args()

state = load_file(args.file)
model = getattr(torchvision.models, args.arch)(num_classes=state["fc.weight"].shape[0])
if args.cifar:
    model.conv1 = torch.nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
print(model.load_state_dict(state, strict=True))
with torch.no_grad():
    print(model.eval()(torch.zeros(1, 3, 32, 32)).shape)
