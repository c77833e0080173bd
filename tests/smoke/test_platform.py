"""The running platform: what the smoke run saw, the README's commands, and what breaks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import requests
from deltalake import DeltaTable

from schemas import columnar
from streams.cli.exporter import PARTS, Exporter
from streams.cli.status import process_status
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail
from tests.paths import ROOT
from tests.smoke.instance import Instance, wait_until
from topology.monitoring.metrics import LAG, METRICS, PART_UP

WAIT_S = 600
"""For anything that the platform is to do: many times what it takes, for a machine may be slow."""

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(3 * WAIT_S)]

PROVED_ELSEWHERE = {
    "podstream up": "the fixtures of this tier start instances",
    "podstream import movielens ml-100k": "test_movielens.py",
    "podstream recommend 196": "test_movielens.py",
    "podstream rebuild --code ../changed": "broker/test_versions.py, with a changed rule",
    "podstream versions diff v1 v2": "broker/test_versions.py",
}


def test_everything_came(platform: Instance) -> None:
    assert platform.report["ok"], platform.report
    states = {p["name"]: p["state"] for p in platform.report["status"]["processes"]}
    assert set(states.values()) == {"RUNNING"}, states


def readme_commands() -> list[str]:
    """Every line of the README's shell blocks that runs `podstream`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [line for line in lines if line not in PROVED_ELSEWHERE]
    return [line for line in lines if re.search(r"(^|\| )podstream ", line)]


def readme_targets() -> list[str]:
    """Every make target that the README names."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"`?make ([a-z-]+)`?", text)))


@pytest.mark.parametrize("target", readme_targets())
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", readme_commands())
def test_every_podstream_command_of_the_readme_works(
    platform: Instance, command: str, tmp_path: Path
) -> None:
    # What a newcomer has at hand when typing the README's import lines.
    for name in ("episodes.csv", "events.jsonl"):
        (tmp_path / name).write_text((ROOT / "tests/smoke/data" / name).read_text())
    # A show of the demo's own index: nothing else is there to be followed without a network.
    feed = f"http://127.0.0.1:{platform.settings.port('demo_index')}/feeds/990000001.xml"
    opml = f'<opml version="2.0"><body><outline type="rss" xmlUrl="{feed}"/></body></opml>'
    (tmp_path / "feeds.opml").write_text(opml)
    binary = Path(os.environ.get("VIRTUAL_ENV", ROOT / ".venv")) / "bin"

    def succeeds() -> bool:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**platform.environment, "PATH": f"{binary}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        print(done.stdout, done.stderr)
        return done.returncode == 0

    # A person types more slowly than a script.
    wait_until(succeeds, WAIT_S / 2, f"success of {command}")


def test_the_read_api_answers_for_a_listener_and_of_an_episode(platform: Instance) -> None:
    address = f"{platform.settings.api_url}/v1"

    def told(path: str) -> dict[str, Any]:
        answer = requests.get(f"{address}/{path}", timeout=10)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def personal() -> bool:
        return bool(told("listeners/listener-0001/recommendations")["source"] == "personal")

    wait_until(personal, WAIT_S, "a list of listener-0001")
    first = told("trending")["items"][0]["episode_id"]
    assert len(told(f"episodes/{first}/stats")["windows"]) == 5
    assert told(f"episodes/{first}/similar")["items"]
    assert told("health")["status"] == "ok"


def test_every_process_tells_prometheus_that_it_is_ready(platform: Instance) -> None:
    targets = json.loads((platform.home / "run" / "prometheus.json").read_text())
    addresses = {one["labels"]["process"]: one["targets"][0] for one in targets}
    assert len(addresses) > 8

    def not_ready() -> dict[str, str]:
        answers = {n: requests.get(f"http://{a}/ready", timeout=30) for n, a in addresses.items()}
        return {name: answer.text for name, answer in answers.items() if not answer.ok}

    wait_until(lambda: not not_ready(), WAIT_S, "readiness of every process")
    for name, address in addresses.items():
        told = requests.get(f"http://{address}/metrics", timeout=30).text
        assert f'podstream_process_info{{process="{name}"' in told
    measured = list(Exporter(platform.settings, PARTS, answer_s=WAIT_S).families())
    parts = next(one for one in measured if one.name == PART_UP.name)
    assert {sample.value for sample in parts.samples} == {1.0}
    assert {one.name.removesuffix("_total") for one in measured} >= {
        one.name.removesuffix("_total") for one in METRICS if one.subject == LAG.subject
    }


def test_garbage_ends_in_the_dead_letter_topic_and_stops_nothing(platform: Instance) -> None:
    out = producer(platform.settings.kafka_bootstrap_servers)
    garbage = b"\xde\xad\xbe\xef this is no event"
    out.produce("user-events", garbage, key=b"nobody")
    assert out.flush(30) == 0

    wait_until(lambda: platform.dead_letters("user-events.dlq"), WAIT_S, "the dead letter")
    status = platform.status()
    assert {d["topic"] for d in status["dead_letters"] if d["count"]} >= {"user-events.dlq"}
    states = {process["name"]: process["state"] for process in status["processes"]}
    assert states["batch_events"] == "RUNNING"
    shown = platform.run("dlq", "show", "user-events.dlq")
    assert garbage.hex() in shown.stdout, shown.stdout
    assert "nobody" in shown.stdout


@pytest.mark.parametrize("name", ["track", "batch_events", "serve", "mongo"])
def test_a_killed_process_comes_back_and_work_goes_on(platform: Instance, name: str) -> None:
    pid = platform.process(name)["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        now = platform.process(name)
        found: bool = now["state"] == "RUNNING" and now["pid"] != pid
        return found

    wait_until(back, WAIT_S, f"{name} after kill -9")
    written = _events_written(platform)
    wait_until(
        lambda: any(_counted_up_to(platform, partition) >= n for partition, n in written.items()),
        WAIT_S,
        f"windows with events that came after {name} was back",
    )


def _events_written(platform: Instance) -> dict[int, int]:
    """How many events each partition has."""
    with LogReader(platform.settings.kafka_bootstrap_servers) as logs:
        return logs.ends("user-events")


def _counted_up_to(platform: Instance, partition: int) -> int:
    """The last offset of a partition that is in the served windows of the newest minutes."""
    with platform.mongo() as database:
        windows = list(database["engagement_windows"].find(sort=[("bucket", -1)], limit=1000))
    parts = [window["parts"].get(str(partition), {"offset": -1}) for window in windows]
    return max((part["offset"] for part in parts), default=-1)


@pytest.fixture(scope="module")
def snapshot(platform: Instance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that was taken while the demo's listeners listened."""
    wait_until(lambda: platform.delta_rows("user_events"), WAIT_S, "the first events in Delta")
    path = tmp_path_factory.mktemp("snapshots") / "demo"
    before = {process.name: process.pid for process in process_status(platform.settings)}
    taken = platform.run("snapshot", str(path), timeout=WAIT_S)
    assert taken.returncode == 0, taken.stdout + taken.stderr
    after = {process.name: process.pid for process in process_status(platform.settings)}
    assert after == before
    return path


def test_after_a_snapshot_work_goes_on(platform: Instance, snapshot: Path) -> None:
    assert (snapshot / "manifest.json").is_file()
    written = _events_written(platform)
    wait_until(
        lambda: any(_counted_up_to(platform, partition) >= n for partition, n in written.items()),
        WAIT_S,
        "windows with events that came after the snapshot",
    )


def test_stopped_listeners_leave_counts_that_agree_everywhere(platform: Instance) -> None:
    """Once nobody listens any more, MongoDB, Delta and the log say the same, event for event."""
    platform.run("down")
    started = platform.run("up", "--detach", timeout=WAIT_S)
    assert started.returncode == 0, started.stdout + started.stderr
    assert _agreed(platform)["plays"] > 0


def _agreed(platform: Instance) -> dict[str, int]:
    """Wait until all counts agree; what is counted in MongoDB then."""
    counts = ("impressions", "clicks", "plays", "completes", "heard_ms")

    def in_mongo() -> dict[str, int]:
        sums = dict.fromkeys(counts, 0)
        with platform.mongo() as database:
            for document in database["engagement_windows"].find({}, dict.fromkeys(counts, 1)):
                for name in counts:
                    sums[name] += document[name]
        return sums

    def counted(rows: pl.DataFrame) -> dict[str, int]:
        kinds = dict(rows.group_by(pl.col("kind").cast(pl.String)).len().iter_rows())
        names = {"impressions": "impression", "clicks": "click", "plays": "play"}
        sums = {count: kinds.get(kind, 0) for count, kind in names.items()}
        return {
            **sums,
            "completes": kinds.get("complete", 0),
            "heard_ms": rows["heard_ms"].sum(),
        }

    def in_events() -> dict[str, int]:
        return counted(_delta(platform, "user_events"))

    def late() -> dict[str, int]:
        """History that was imported into the running instance is too old for the windows."""
        frames = [pl.DataFrame(schema=columnar.columns("user_event"))]
        reading = LogTail(platform.settings.kafka_bootstrap_servers, ["late-events"])
        reading.read_to_end(
            lambda messages: frames.extend(
                columnar.from_message(message.value, "user_event") for message in messages
            )
        )
        reading.close()
        return counted(pl.concat(frames).unique(["partition", "offset"]))

    def in_windows_or_late() -> dict[str, int]:
        windows, others = in_mongo(), late()
        return {name: windows[name] + others[name] for name in counts}

    def in_daily() -> dict[str, int]:
        rows = _delta(platform, "user_vs_episode_daily")
        assert rows.select("user_id", "episode_id", "day").is_unique().all()
        return {name: int(rows[name].sum()) for name in counts}

    wait_until(
        lambda: in_windows_or_late() == in_events() == in_daily(), WAIT_S, "agreement of all counts"
    )
    return in_mongo()


def _delta(platform: Instance, name: str) -> pl.DataFrame:
    table = DeltaTable(f"{platform.settings.delta_root}/{name}")
    return pl.DataFrame(pl.from_arrow(table.to_pyarrow_table()))


def test_a_rebuild_from_the_log_comes_to_the_same_tables(platform: Instance) -> None:
    done = platform.run("rebuild", "--check", timeout=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    with platform.mongo() as database:
        promoted = database["table_generations"].find_one()
    assert promoted
    assert promoted["generation"] >= 2, json.dumps(promoted, default=str)


def test_a_snapshot_restored_elsewhere_is_right_in_every_number(
    platform: Instance, snapshot: Path, tmp_path: Path
) -> None:
    """Spark goes on from its checkpoints, in another folder; Delta, MongoDB and the log agree."""
    platform.run("down")
    copy = Instance(tmp_path / "copy", {})
    restored = copy.run("restore", str(snapshot), timeout=WAIT_S)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    in_delta = DeltaTable(str(copy.home / "delta" / "user_events")).to_pyarrow_table().num_rows
    try:
        started = copy.run("up", "--detach", "--ports", "auto", timeout=WAIT_S)
        assert started.returncode == 0, started.stdout + started.stderr
        assert _agreed(copy)["plays"] > 0
        verified = copy.run("verify", timeout=WAIT_S)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        events = _delta(copy, "user_events")
        assert events.height >= in_delta > 0
        assert events.select("source_partition", "source_offset").is_unique().all()
        failed = [p.name for p in process_status(copy.settings) if p.state != "RUNNING"]
        assert failed == []
    finally:
        copy.run("down")
