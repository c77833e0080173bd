"""Embedding the demo catalogue's transcripts: torch, ONNX and 8-bit integers side by side.

Each side runs in a process of its own, on one thread as in the platform, over the same stretches of
speech. Printed are texts a second of processor time and of wall time (the best of some rounds),
memory, the time from a cold start to the first vector, and how far each agrees with torch in
fp32 about which episodes are near: the mean share of the nearest 10 and 20 episodes in common, and
Spearman's rank correlation over all. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray

REFERENCE = "torch-fp32"
SIDES = (
    REFERENCE,
    "torch-bf16",
    "onnx-fp32",
    "onnx-int8-dynamic",
    "onnx-int8-dynamic-per-channel",
    "onnx-int8",
)
"""The two `dynamic` ones are what ONNX Runtime's own quantisation makes."""

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def main() -> None:
    """Measure both sides in turn, each in a process of its own, and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--episodes", type=int, default=420, help="episodes of the catalogue")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side embeds them")
    parser.add_argument("--side", choices=SIDES, help="run one side only, into --folder")
    parser.add_argument("--folder", type=Path, help="where a side leaves its vectors")
    options = parser.parse_args()
    if options.side:
        run_side(options.side, options.folder, options.episodes, options.rounds)
        return
    with tempfile.TemporaryDirectory(prefix="embedding-") as folder:
        sides = {side: _measured(side, Path(folder), options) for side in SIDES}
        vectors = {side: np.load(Path(folder) / f"{side}.npy") for side in SIDES}
    reference = vectors[REFERENCE]
    for side, figures in sides.items():
        figures["agreement"] = agreement(reference, vectors[side])
        per_s = figures["texts_per_cpu_s"] / sides[REFERENCE]["texts_per_cpu_s"]
        figures["times_torch_fp32"] = round(per_s, 2)
    machine.report("embedding", {"episodes": options.episodes, "sides": sides})


def _measured(side: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    print(f"{side} …", file=sys.stderr)
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    command += ["--episodes", str(options.episodes), "--rounds", str(options.rounds)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run_side(side: str, folder: Path, episodes: int, rounds: int) -> None:
    """Embed, print the figures and leave the vectors of the episodes as ``SIDE.npy``."""
    from jobs.core.chunks import chunks
    from jobs.core.neighbours import mean_pool
    from streams.demo.demo_catalogue import build_catalogue
    from streams.demo.demo_transcripts import write_vtt
    from streams.transcripts.core.transcripts import transcript_record

    link = {"url": "https://example.org/a.vtt", "type": "text/vtt"}
    listed = list(build_catalogue().episodes.values())[:episodes]
    cut = [
        chunks(transcript_record({"episode_id": "e"}, link, write_vtt(episode.lines).encode()))
        for episode in listed
    ]
    texts = [text for parts in cut for text in parts]
    _prepare(side, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    encode = _open(side, folder)
    encode(texts[:1])
    cold_s = time.monotonic() - begun
    found = []
    for _ in range(rounds):
        wall, processor = time.monotonic(), time.process_time()
        vectors = encode(texts)
        found.append((time.process_time() - processor, time.monotonic() - wall))
    places = np.cumsum([0, *map(len, cut)])
    pooled = [mean_pool(vectors[a:b]) for a, b in pairwise(places.tolist())]
    np.save(folder / f"{side}.npy", np.stack(pooled))
    figures = {
        "texts": len(texts),
        "texts_per_cpu_s": round(len(texts) / min(cpu for cpu, _ in found), 1),
        "texts_per_s": round(len(texts) / min(wall for _, wall in found), 1),
        "cold_start_s": round(cold_s, 2),
        "memory_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
    }
    print(json.dumps(figures))


def _dynamic(side: str, folder: Path) -> Path:
    return folder / f"{side}.onnx"


def _prepare(side: str, folder: Path) -> None:
    """Make the files of a side, which is not part of its start."""
    if side.startswith("onnx"):
        from jobs.embedding_model import BACKENDS, PACKAGED_MODEL, exported

        plain = exported(PACKAGED_MODEL, folder) / BACKENDS["onnx-fp32"]
        if "dynamic" in side:
            command = (
                "import sys; from onnxruntime.quantization import QuantType, quantize_dynamic;"
                "quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8,"
                "per_channel=bool(sys.argv[3]))"
            )
            channel = "1" if side.endswith("channel") else ""
            arguments = [str(plain), str(_dynamic(side, folder)), channel]
            subprocess.run([sys.executable, "-c", command, *arguments], check=True)


def _open(side: str, folder: Path) -> Encode:
    from jobs.embedding_model import (
        BACKENDS,
        PACKAGED_MODEL,
        OnnxEncoder,
        exported,
        load_torch,
        unit_vectors,
    )

    if not side.startswith("onnx"):
        model = load_torch(PACKAGED_MODEL)
        if side == REFERENCE:
            return lambda texts: unit_vectors(model, texts)
        model.bfloat16()
        return lambda texts: (
            model.encode(
                list(texts), normalize_embeddings=True, convert_to_tensor=True, batch_size=32
            )
            .float()
            .numpy()
        )
    if side in BACKENDS:
        return OnnxEncoder(exported(PACKAGED_MODEL, folder), side).encode
    BACKENDS[side] = str(_dynamic(side, folder))
    return OnnxEncoder(exported(PACKAGED_MODEL, folder), side).encode


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> dict[str, float]:
    """How far two sets of unit vectors (n, d) agree on what is near to what, 0 to 1."""
    from scipy.stats import spearmanr

    cosines = [vectors @ vectors.T for vectors in (one, other)]
    for matrix in cosines:
        np.fill_diagonal(matrix, -np.inf)
    ranked = [np.argsort(-matrix, axis=1, kind="stable") for matrix in cosines]
    figures = {}
    for count in (10, 20):
        shared = [
            len(set(a[:count].tolist()) & set(b[:count].tolist())) / count
            for a, b in zip(*ranked, strict=True)
        ]
        figures[f"nearest_{count}"] = round(float(np.mean(shared)), 4)
    others = ~np.eye(len(one), dtype=bool)
    rows = zip(*(matrix[others].reshape(len(one), -1) for matrix in cosines), strict=True)
    figures["spearman"] = round(float(np.mean([spearmanr(a, b).statistic for a, b in rows])), 5)
    return figures


if __name__ == "__main__":
    main()
