"""Runs where the data is: fits body mass to flipper length, for each species of penguins."""

import csv
import json
import os
import random
import statistics
from pathlib import Path

(did,) = json.loads(os.environ["DIDS"])
custom = json.loads(Path("/data/inputs/algoCustomData.json").read_text())
rounds = custom.get("rounds", 200)

penguins = {}
with Path("/data/inputs", did, "0").open(newline="") as file:
    for row in csv.DictReader(file):
        if row["flipper_length_mm"] not in ("", "NA"):
            pair = (float(row["flipper_length_mm"]), float(row["body_mass_g"]))
            penguins.setdefault(row["species"], []).append(pair)

chance = random.Random(2007)
fits = {}
for species, pairs in sorted(penguins.items()):
    slope, _ = statistics.linear_regression(*zip(*pairs, strict=True))
    again = []
    for _ in range(rounds):
        drawn = chance.choices(pairs, k=len(pairs))
        again.append(statistics.linear_regression(*zip(*drawn, strict=True)).slope)
    again.sort()
    fits[species] = {
        "penguins": len(pairs),
        "mean_mass_g": round(statistics.mean(mass for _, mass in pairs), 1),
        "grams_per_mm": round(slope, 2),
        "from": round(again[len(again) // 40], 2),
        "to": round(again[-len(again) // 40 - 1], 2),
        "correlation": round(statistics.correlation(*zip(*pairs, strict=True)), 3),
    }
    print(f"{species}: {rounds} samples of {len(pairs)} penguins", flush=True)

Path("/data/outputs/fits.json").write_text(json.dumps(fits, indent=2))
