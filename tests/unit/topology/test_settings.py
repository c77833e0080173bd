"""Settings that follow from others."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr

from topology.settings import Settings


@pytest.mark.parametrize(
    ("said", "days", "minutes"),
    [
        ({}, 56, timedelta(hours=48)),
        ({"mongodb_uri": SecretStr("mongodb://127.0.0.1:19092")}, 56, timedelta(hours=48)),
        ({"mongodb_uri": SecretStr("mongodb://elsewhere:27017")}, 400, timedelta(days=400)),
        (
            {"mongodb_uri": SecretStr("mongodb://elsewhere"), "mongo_keep_hours": 30},
            400,
            timedelta(hours=30),
        ),
        ({"mongo_keep_days": 1}, 1, timedelta(days=1)),
        ({"mongo_keep_days": 0}, 0, timedelta(hours=48)),
        ({"mongo_keep_days": 1, "mongo_keep_hours": 30}, 1, timedelta(hours=30)),
        ({"mongo_keep_hours": 0, "mongo_keep_days": 3}, 3, timedelta(days=3)),
        ({"mongo_keep_hours": 0, "mongo_keep_days": 0}, 0, timedelta(0)),
    ],
)
def test_the_embedded_mongodb_keeps_less(
    said: dict[str, object], days: int, minutes: timedelta
) -> None:
    settings = Settings(**said)  # type: ignore[arg-type]
    assert settings.mongo_keep_days == days
    assert settings.mongo_keep_minutes == minutes
