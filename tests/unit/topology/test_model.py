from __future__ import annotations

from schemas.units import DAY_MS
from topology.model import Column, DeltaTable, Index, Topic


def test_a_deleted_topic_carries_its_retention_and_a_compacted_one_does_not() -> None:
    assert Topic("a", "d", key="k").config()["retention.ms"] == "-1"
    assert "retention.ms" not in Topic("a", "d", key="k", cleanup="compact").config()


def test_what_gives_disk_back_does_so_in_small_young_segments() -> None:
    for settings in (
        Topic("a", "d", key="k", cleanup="compact").config(),
        Topic("a", "d", key="k", purge_after_ms=1).config(),
    ):
        assert (settings["segment.bytes"], settings["segment.ms"]) == ("33554432", "600000")
    week = Topic("a", "d", key="k", retention_ms=7 * DAY_MS).config()
    assert int(week["segment.ms"]) * 20 == 7 * DAY_MS
    assert "segment.ms" not in Topic("a", "d", key="k").config()
    assert "segment.ms" not in Topic("a", "d", key="k", segment_bytes=1).config()


def test_a_topic_that_is_purged_behind_its_readers_has_no_retention() -> None:
    assert Topic("a", "d", key="k", purge_after_ms=1).config()["retention.ms"] == "-1"


def test_append_time_is_a_setting_of_the_topic() -> None:
    assert Topic("a", "d", key="k", append_time=True).config()["message.timestamp.type"] == (
        "LogAppendTime"
    )


def test_index_names_are_mongos_own() -> None:
    assert Index((("episode_id", 1), ("bucket", -1))).name == "episode_id_1_bucket_-1"


def test_ddl_quotes_columns_and_marks_those_that_must_be_there() -> None:
    table = DeltaTable(
        "t",
        "d",
        (Column("day", "date", "day", nullable=False), Column("n", "bigint", "count")),
        key=("day",),
    )
    assert table.ddl() == "`day` date NOT NULL, `n` bigint"
