"""What one part of an instance does not say keeps no other part from being told."""

from __future__ import annotations

import threading

from streams.cli.exporter import Exporter
from streams.monitoring.instruments import Family, family
from topology.monitoring.metrics import DISK_FREE, LAG, PART_UP
from topology.settings import Settings


def told(families: list[Family]) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        one.name: {tuple(sample.labels.values()): sample.value for sample in one.samples}
        for one in families
    }


def test_a_part_that_fails_and_one_that_hangs_are_told_and_asked_again() -> None:
    released, asked = threading.Event(), []

    def hangs(_: Settings) -> list[Family]:
        asked.append(1)
        assert released.wait(60)
        return [family(LAG, {("track",): 3})]

    def fails(_: Settings) -> list[Family]:
        raise ConnectionError("refused")

    def answers(_: Settings) -> list[Family]:
        return [family(DISK_FREE, {(): 9})]

    parts = {"broker": hangs, "mongodb": fails, "disk": answers}
    exporter = Exporter(Settings(), parts, answer_s=0.05)
    for _ in range(2):
        assert told(list(exporter.families())) == {
            DISK_FREE.name: {(): 9},
            PART_UP.name: {("broker",): 0, ("mongodb",): 0, ("disk",): 1},
        }
    assert len(asked) == 1  # what is under way is waited for
    released.set()
    patient = Exporter(Settings(), parts, answer_s=60)
    assert told(list(patient.families()))[LAG.name] == {("track",): 3}
