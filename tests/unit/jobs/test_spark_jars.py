"""The jar folder: where it is, when it is good, what is said when it cannot be had."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs import spark_jars as jars


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PODSTREAM_JARS", str(tmp_path))
    assert jars.jar_root() == tmp_path
    assert not jars.jars_ready()


def test_a_stamp_of_other_jars_does_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PODSTREAM_JARS", str(tmp_path))
    (tmp_path / "stamp").write_text("of an older ivy.xml")
    assert not jars.jars_ready()


def test_an_unknown_configuration_is_an_error() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        jars.jar_paths("nosuch")


def test_failure_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A real Ivy on a module description that cannot be resolved."""
    broken = tmp_path / "ivy.xml"
    broken.write_text(
        '<ivy-module version="2.0"><info organisation="x" module="x"/><configurations>'
        '<conf name="kafka"/></configurations><nonsense/></ivy-module>'
    )
    monkeypatch.setattr(jars, "IVY_FILE", broken)
    monkeypatch.setenv("PODSTREAM_JARS", str(tmp_path / "jars"))
    with pytest.raises(jars.JarsError, match=r"make setup.*resolve\.log"):
        jars.ensure_jars()
    assert not jars.jars_ready()


def test_every_configuration_has_its_main_jar() -> None:
    def names(conf: str) -> str:
        return " ".join(path.name for path in jars.jar_paths(conf))

    assert "kafka_2.13-" in names("kafka")
    for part in ("delta-spark_", "spark-sql-kafka-", "spark-avro_"):
        assert part in names("spark")


def test_spark_jars_fit_the_installed_pyspark() -> None:
    tree = ElementTree.parse(jars.IVY_FILE)  # noqa: S314  our own file
    revisions = {
        one.get("name"): one.get("rev") for one in tree.iterfind("dependencies/dependency")
    }
    assert revisions["spark-sql-kafka-0-10_2.13"] == version("pyspark")
    assert revisions["spark-avro_2.13"] == version("pyspark")
    assert revisions["delta-spark_4.1_2.13"] == version("delta-spark")


def test_no_jar_comes_twice_with_pyspark() -> None:
    """Two versions of one jar on a class path: whichever comes first wins, silently."""
    import pyspark

    def bare(path: Path) -> str:
        return path.stem.rsplit("-", 1)[0]

    shipped = {bare(path) for path in (Path(pyspark.__file__).parent / "jars").glob("*.jar")}
    assert shipped.isdisjoint(bare(path) for path in jars.jar_paths("spark"))
