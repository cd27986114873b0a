"""SupCon L_out as one writes it with PyTorch: the peer of `cargo xtask bench loss --peer PYTHON`.

Arguments: rows, columns, threads. For every line on stdin one forward and backward pass; answers one JSON line: seconds, the
loss, megabytes of peak memory above the inputs (Linux), PyTorch's version.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F


def memory(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) / 1e3
    return float("nan")


def supcon_out(x, labels, temperature):
    z = F.normalize(x, dim=1)
    s = z @ z.T / temperature  # [B, B]
    itself = torch.eye(len(x), dtype=torch.bool)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    lse = torch.logsumexp(s.masked_fill(itself, float("-inf")), dim=1)
    mean = (s * positives).sum(1) / positives.sum(1).clamp(min=1)
    return (lse - mean)[positives.any(1)].mean()


def main():
    rows, columns, threads = map(int, sys.argv[1:4])
    torch.set_num_threads(threads)
    k = torch.arange(rows * columns)
    x = (k.float() * 0.7 + (k // 1000).float()).sin().reshape(rows, columns)
    del k
    x.requires_grad_()
    labels = torch.arange(rows) % 10
    # What the libraries set aside on their first use is not the loss'.
    small = torch.randn(64, columns, requires_grad=True)
    supcon_out(small, labels[:1].repeat(64), 0.1).backward()
    before = memory("VmRSS:")
    try:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")  # the peak begins anew
    except OSError:
        pass
    for _ in sys.stdin:
        x.grad = None
        start = time.perf_counter()
        loss = supcon_out(x, labels, 0.1)
        loss.backward()
        answer = {
            "seconds": time.perf_counter() - start,
            "loss": loss.item(),
            "megabytes": memory("VmHWM:") - before,
            "version": f"PyTorch {torch.__version__}",
        }
        print(json.dumps(answer), flush=True)


main()
