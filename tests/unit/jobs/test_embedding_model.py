"""The embedding model as it is exported, and what happens where it cannot be."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs import embedding_model
from jobs.embedding_model import (
    BACKENDS,
    PACKAGED_MODEL,
    PROBES,
    Model,
    OnnxEncoder,
    TorchEncoder,
    exported,
    open_encoder,
)
from topology.settings import Settings


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of a run of all tiers, whose instances come later; or a folder of its own."""
    made = Path(os.environ.get("MODELS_ROOT") or tmp_path_factory.mktemp("models"))
    exported(PACKAGED_MODEL, made)
    return made


@pytest.fixture(scope="module")
def torch_vectors() -> np.ndarray:
    return TorchEncoder(PACKAGED_MODEL).encode(TEXTS)


TEXTS = ("short", "", "the quick brown fox " * 200, *PROBES)


@pytest.mark.parametrize(("backend", "least"), [("onnx-fp32", 0.9999), ("onnx-int8", 0.985)])
def test_onnx_gives_the_vectors_of_torch(
    models: Path, torch_vectors: np.ndarray, backend: str, least: float
) -> None:
    model = Model(Settings(models_root=str(models), embedding_backend=backend))
    vectors = model.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert np.sum(vectors * torch_vectors, axis=1).min() > least


def test_a_vector_does_not_depend_on_the_other_texts(models: Path) -> None:
    encoder = OnnxEncoder(exported(PACKAGED_MODEL, models), "onnx-int8")
    together = encoder.encode(PROBES)
    alone = [encoder.encode([text])[0] for text in PROBES]
    assert np.array_equal(together, np.stack(alone))


def test_a_processor_that_multiplies_badly_gets_torch(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    folder = exported(PACKAGED_MODEL, tmp_path)
    (folder / "probes.json").write_text(str((-np.eye(len(PROBES), 384)).tolist()))
    with caplog.at_level(logging.WARNING):
        encoder = open_encoder(PACKAGED_MODEL, "onnx-int8", tmp_path)
    assert isinstance(encoder, TorchEncoder)
    assert "cosines with the original" in caplog.text


def test_files_that_are_cut_give_torch(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    path = exported(PACKAGED_MODEL, tmp_path) / BACKENDS["onnx-int8"]
    path.write_bytes(path.read_bytes()[:1000])
    assert isinstance(open_encoder(PACKAGED_MODEL, "onnx-int8", tmp_path), TorchEncoder)


def test_a_model_that_cannot_be_exported_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the export ended with 1"):
        embedding_model.exported(str(tmp_path / "no-such-model"), tmp_path)
    assert list(tmp_path.iterdir()) == []
