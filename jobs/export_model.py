"""`python -m jobs.export_model NAME FOLDER`: a sentence-transformers model as ONNX files.

A process of its own, so that the Spark driver never imports torch: that takes 16 s and most of a
gigabyte. Exit code 0 says that the files are there and give the model's own vectors.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from jobs.core.quantise import quantise
from jobs.embedding_model import (
    BACKENDS,
    FAITHFUL,
    PROBES,
    OnnxEncoder,
    load_torch,
    unit_vectors,
)

_OPSET = 17  # the newest of the exporter that needs no further package


class ExportError(RuntimeError):
    """The model cannot be had as ONNX with the same vectors."""


def export(name: str, folder: Path) -> None:
    """Write tokenizer, models and the vectors of some probes into ``folder``, all or nothing.

    Raises ExportError for a model that is not a transformer with mean pooling.
    """
    import torch

    model = load_torch(name)
    expected = unit_vectors(model, PROBES)
    modules = list(model)
    pooling = getattr(modules[1], "pooling_mode", None) if len(modules) > 1 else None
    kinds = [type(module).__name__ for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or pooling not in ("mean", ("mean",), ["mean"]):
        raise ExportError(f"{name} is {kinds} with pooling {pooling}, not mean pooling")

    class Pooled(torch.nn.Module):
        """(1, tokens) ids to the unit vector (1, d): the mean over the tokens."""

        def __init__(self, transformer: Any):
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any) -> Any:
            states = self.transformer(input_ids=input_ids).last_hidden_state
            return torch.nn.functional.normalize(states.mean(1), dim=1)

    transformer = modules[0].auto_model
    transformer.set_attn_implementation("eager")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        place = Path(made) / folder.name
        place.mkdir()
        tokenizer = model.tokenizer.backend_tokenizer
        tokenizer.no_padding()
        tokenizer.enable_truncation(model.max_seq_length)
        tokenizer.save(str(place / "tokenizer.json"))
        full = place / BACKENDS["onnx-fp32"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Pooled(transformer).eval(),
                (torch.arange(16).reshape(1, -1),),
                str(full),
                input_names=["input_ids"],
                output_names=["vector"],
                dynamic_axes={"input_ids": {1: "tokens"}},
                opset_version=_OPSET,
                dynamo=False,
            )
        onnx.save(quantise(onnx.load(full)), place / BACKENDS["onnx-int8"])
        (place / "probes.json").write_text(json.dumps(expected.tolist()))
        exact = OnnxEncoder(place, "onnx-fp32").encode(PROBES)
        if (np.sum(exact * expected, axis=1) < FAITHFUL["onnx-fp32"]).any():
            raise ExportError(f"{name} gives other vectors as ONNX")
        place.replace(folder)


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
