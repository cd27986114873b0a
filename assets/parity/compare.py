"""Puts run folders of keras-like.toml beside the PyTorch reference, epoch by epoch. Standard library only.

  python assets/parity/compare.py assets/parity/reference.jsonl RUN_DIR [RUN_DIR ...]

One row per figure: every epoch's mean training loss, validation accuracy where the stage has one, and each arm's
test accuracy. `range` is the least and the greatest value among the reference's seeds; `=` marks a run inside it,
`<` and `>` one below and above. With several run folders the last column is their mean.

How to read it: of four runs that differ in nothing but the seed, each is equally likely to be the lowest or the
highest, so a single run lies inside the range of three others only half the time. `t` says how far out the mean of
our runs is, in standard errors of the difference (spread taken from the reference's seeds); with three seeds a
|t| above 4.3 is rarer than 5 %.

Exit status 0: every figure of the last column is inside the range; 1: some are not; 2: something is missing.
"""

import json
import math
import statistics
import sys
from pathlib import Path


def lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_reference(path):
    """{(arm, stage, epoch, figure): {seed: value}}; epochs count from 1, test has epoch 0."""
    figures = {}
    for line in lines(path):
        if "arm" not in line:
            continue
        for figure in ("train_loss", "validation_top1", "test_top1"):
            if figure in line:
                key = (line["arm"], line["stage"], line.get("epoch", 0), figure)
                figures.setdefault(key, {})[line["seed"]] = line[figure]
    return figures


def read_run(folder):
    """The same figures from a run folder, whose epochs count from 0."""
    figures = {}
    for line in lines(folder / "metrics.jsonl"):
        if line.get("event") == "epoch":
            arm, stage = line["stage"].split("/")
            figures[arm, stage, line["epoch"] + 1, "train_loss"] = line["loss"]
            if line.get("validation_accuracy") is not None:
                figures[arm, stage, line["epoch"] + 1, "validation_top1"] = line["validation_accuracy"]
    results = folder / "results.json"
    if results.exists():
        arms = json.loads(results.read_text(encoding="utf-8"))["arms"]
        for arm, result in arms.items():
            figures[arm, "test", 0, "test_top1"] = result["test"]["top1"]
    return figures


def mark(value, low, high):
    return "<" if value < low else ">" if value > high else "="


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    reference = read_reference(sys.argv[1])
    runs = [read_run(Path(folder)) for folder in sys.argv[2:]]
    seeds = sorted({seed for values in reference.values() for seed in values})
    print(f"reference seeds: {seeds}; run folders: {len(runs)}")
    ours = [f"run {i + 1}" for i in range(len(runs))] + (["mean"] if len(runs) > 1 else [])
    columns = ["arm", "stage", "epoch", "figure", "range of the reference", *ours, "t"]
    widths = [11, 10, 5, 15, 22] + [9] * len(ours) + [6]
    print("  ".join(c.ljust(w) for c, w in zip(columns, widths)))

    inside = outside = missing = 0
    for key, by_seed in reference.items():
        theirs = list(by_seed.values())
        low, high = min(theirs), max(theirs)
        values = [run.get(key) for run in runs]
        known = [v for v in values if v is not None]
        mean = statistics.fmean(known) if known else None
        if len(runs) > 1:
            values.append(mean)
        cells = ["missing".ljust(9) if v is None else f"{v:.4f} {mark(v, low, high)} " for v in values]
        t = ""
        if mean is None:
            missing += 1
        else:
            good = low <= mean <= high
            inside, outside = inside + good, outside + (not good)
            spread = statistics.stdev(theirs) if len(theirs) > 1 else 0.0
            if spread > 0:
                t = f"{(mean - statistics.fmean(theirs)) / (spread * math.sqrt(1 / len(theirs) + 1 / len(known))):+.2f}"
        arm, stage, epoch, figure = key
        row = [arm, stage, str(epoch or ""), figure, f"{low:.4f} .. {high:.4f}", *cells, t]
        print("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip())
    print(f"{inside} inside, {outside} outside, {missing} missing (of {inside + outside + missing})")
    return 2 if missing else 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
