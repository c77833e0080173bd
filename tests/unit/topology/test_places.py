"""Which roots are folders of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from topology.places import local_folder


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        ("/lake", "/lake"),
        ("lake/tables", "lake/tables"),
        ("/la:ke/a%20b#c", "/la:ke/a%20b#c"),
        ("file:/lake", "/lake"),
        ("file:///la%20ke", "/la ke"),
        ("FILE:///lake", "/lake"),
    ],
)
def test_paths_and_files_are(root: str, folder: str) -> None:
    assert local_folder(root) == Path(folder)


@pytest.mark.parametrize("root", ["s3a://bucket/lake", "gs://bucket", "abfss://a@b/c", "dbfs:/c"])
def test_other_addresses_are_not(root: str) -> None:
    assert local_folder(root) is None
