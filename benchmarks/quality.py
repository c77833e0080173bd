"""How good lists are, as the field measures it: ours beside what others would have shown.

    python benchmarks/quality.py --protocol random --seeds 5 > quality.json

MovieLens-100K is cut in several ways (`--protocol`, default all):

- `random`: a quarter of each person's ratings at random, all of them relevant, all films ranked
  (the Recommenders repository's protocol);
- `chronological`: the last quarter of each person's ratings;
- `global`: the last quarter of all ratings, of people who had rated before;
- `last_fifth`: the last fifth of what each liked (four stars and more), strengths as imported;
- `cold_1`, `cold_3`, `cold_5`: a fifth of the people come with so many ratings; the rest is asked.

Each seed is another draw of the cut, where it is drawn at all, and other starts of what is
learned. Whatever is tuned is tuned on a cut of the training data by the protocol's own way. Means
over listeners and seeds come with the half-width of their 95 % interval: of the listeners' own
figures, averaged over seeds. `vs_ease` compares listener by listener. `implicit`'s ALS and BPR are
in the table where the `benchmark` extra is installed. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray
from quality_table.models import MODELS, Model
from quality_table.protocols import PROTOCOLS, Cut, read_pairs

from jobs.core.evaluation import judge
from streams.operations.importing import fetch_recbole
from topology.settings import Settings

EVEN = "ease"
"""The model that the others are compared with, listener by listener."""

Table = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Print the table of each protocol as JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--protocol", action="append", choices=list(PROTOCOLS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    parser.add_argument("--wheel", type=Path, help="the package that carries MovieLens-100K")
    options = parser.parse_args()
    wheel = options.wheel or fetch_recbole(Settings().podstream_home / "downloads")
    models = {name: MODELS[name] for name in options.model or MODELS}
    tables = {}
    for name in options.protocol or PROTOCOLS:
        protocol = PROTOCOLS[name]
        pairs = read_pairs(wheel, graded=protocol.graded)
        runs = [run(name, models, protocol.cut(pairs, seed), seed) for seed in range(options.seeds)]
        tables[name] = {model: summary(model, runs) for model in models}
    machine.report("quality", {"seeds": options.seeds, "protocols": tables})


def run(protocol: str, models: dict[str, Model], cut: Cut, seed: int) -> dict[str, dict[str, Any]]:
    """What each model is worth on one cut: figures by listener, of all lists, seconds."""
    found = {}
    for name, learn in models.items():
        started = time.monotonic()
        score = learn(cut, PROTOCOLS[protocol].cut, seed)
        learned = time.monotonic()
        judged = judge(score, cut.train, cut.test)
        found[name] = {
            "listeners": np.unique(cut.test.user),
            "figures": judged.by_listener,
            "coverage_at_10": judged.coverage,
            "gini_at_10": judged.gini,
            "seconds_learning": learned - started,
            "ms_a_list": (time.monotonic() - learned) * 1000 / len(np.unique(cut.test.user)),
        }
        ndcg = judged.by_listener["ndcg_at_10"].mean()
        print(f"{protocol} {seed} {name}: {ndcg:.4f}", file=sys.stderr, flush=True)
    return found


def summary(model: str, runs: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Means and half-widths of the 95 % intervals, over the seeds of one protocol."""
    mine = [one[model] for one in runs]
    result: dict[str, Any] = {
        metric: interval(mine, [one["figures"][metric] for one in mine])
        for metric in mine[0]["figures"]
    }
    for name in ("coverage_at_10", "gini_at_10", "seconds_learning", "ms_a_list"):
        result[name] = round(float(np.mean([one[name] for one in mine])), 4)
    if EVEN in runs[0]:
        gains = [
            one[model]["figures"]["ndcg_at_10"] - one[EVEN]["figures"]["ndcg_at_10"] for one in runs
        ]
        result["vs_ease"] = interval(mine, gains)
    return result


def interval(runs: list[dict[str, Any]], values: list[NDArray[np.float64]]) -> list[float]:
    """Mean of the runs' means, and 1.96 standard errors of the listeners' means over runs."""
    listeners = np.concatenate([one["listeners"] for one in runs])
    everything = np.concatenate(values)
    own, place, counts = np.unique(listeners, return_inverse=True, return_counts=True)
    means = np.bincount(place, everything) / counts
    spread = means.std(ddof=1) / np.sqrt(len(own)) if len(own) > 1 else 0.0
    return [round(float(np.mean([v.mean() for v in values])), 4), round(1.96 * float(spread), 4)]


if __name__ == "__main__":
    main()
