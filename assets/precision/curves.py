"""Curves of several runs side by side, as a Markdown table: python curves.py f32=RUN f32=RUN bf16=RUN …

Reads what every run folder holds: epoch records of metrics.jsonl, and the test top-1 of results.json. Standard library only.
"""
import json
import pathlib
import sys

STAGE = "baseline/supervised"


def curves(folder):
    """(loss, validation top-1) of every epoch, and the test top-1 with its seed."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    epochs = [e for e in map(json.loads, lines) if e["event"] == "epoch" and e["stage"] == STAGE]
    results = json.loads((folder / "results.json").read_text())
    test = results["arms"][STAGE.split("/")[0]]["test"]["top1"]
    return [(e["loss"], e["validation_accuracy"]) for e in epochs], test, results["seed"]


runs = []
for given in sys.argv[1:]:
    name, _, folder = given.partition("=")
    runs.append((name, *curves(pathlib.Path(folder))))
if not runs:
    sys.exit(__doc__)
print("| epoch | " + " | ".join(f"{name}, seed {seed}" for name, _, _, seed in runs) + " |")
print("|---" * (len(runs) + 1) + "|")
for epoch, row in enumerate(zip(*(found for _, found, _, _ in runs)), 1):
    print(f"| {epoch} | " + " | ".join(f"{loss:.3f}, {100 * top1:.1f} %" for loss, top1 in row) + " |")
print("| test | " + " | ".join(f"{100 * test:.2f} %" for _, _, test, _ in runs) + " |")
