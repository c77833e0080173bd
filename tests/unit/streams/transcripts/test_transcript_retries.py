"""`fetch_transcripts` where hosts are not available: on the in-memory log, over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryRuntime
from streams.transcripts import fetch_transcripts
from streams.transcripts.core.retries import decode_retry, encode_retry, retry_record
from streams.transcripts.fetch_transcripts import FIRST_TRIES_S, RETRIES_OF_A_HOST
from tests.clocks import StandingClock
from tests.served import answering, served
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import TRANSCRIPT_RETRIES

Answer = Callable[[], web.Response]
SPEECH = "WEBVTT\n\n00:00.000 --> 00:05.000\n" + (
    "Heute sprechen wir über die Geschichte der Eisenbahn und warum sie so wichtig für die "
    "Menschen in kleinen Dörfern war.\n"
)


def ok() -> web.Response:
    return web.Response(text=SPEECH, content_type="text/vtt")


def busy() -> web.Response:
    return web.Response(status=503)


class Host:
    """A host on loopback whose answers a test sets: by path, one after another, the last one for
    ever; and what it was asked. Its clock is that of the stage."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: Counter[str] = Counter()
        self.address = ""
        self.clock = StandingClock()
        self.kept_back: set[str] = set()
        """Paths whose answers wait until they go on."""
        self.held, self.goes_on = threading.Event(), threading.Event()

    async def handle(self, request: web.Request) -> web.Response:
        answers = self.answers[request.path]
        self.asked[request.path] += 1
        if request.path in self.kept_back:
            self.held.set()
            await asyncio.to_thread(self.goes_on.wait, 20)
        return (answers.pop(0) if len(answers) > 1 else answers[0])()

    def link(self, path: str, *answers: Answer) -> dict[str, str]:
        self.answers[path] = list(answers)
        return {"url": f"http://{self.address}{path}", "type": "text/vtt"}


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    with served(answering(made.handle)) as made.address:
        yield made
        made.goes_on.set()


def started(host: Host, *intervals_s: float, **settings: object) -> MemoryRuntime:
    values = {"fetch_allow_hosts": host.address, "fetch_backoff_s": 0.001, **settings}
    if intervals_s:
        values["fetch_retry_s"] = intervals_s
    flow = MemoryRuntime(build_graph(2), Settings.model_validate(values), clock=host.clock)
    flow.start("fetch_transcripts")
    return flow


def publish(
    flow: MemoryRuntime, *links: dict[str, str], key: str = "pi:1", **values: object
) -> None:
    record = {"episode_id": key, "title": "t", "show_id": "pi:2", "show_title": "s"} | {
        "source": "podcastindex",
        "transcripts": list(links),
        **values,
    }
    flow.log.append("episode-metadata", record, key=key)


def told(flow: MemoryRuntime) -> list[tuple[str, int, bool]]:
    """Status, attempt and whether another follows, record by record."""
    records = flow.log.decoded("episode-transcripts")
    return [(r["status"], r["attempt"], r["retry_at"] is not None) for r in records]


def waiting(flow: MemoryRuntime) -> dict[bytes, dict[str, Any]]:
    rows = flow.rows("fetch_transcripts", TRANSCRIPT_RETRIES)
    return {key: decode_retry(value) for (_, key), value in rows.items()}


class Telling:
    """What is told of which episode, in order; and an event of each, for a test to wait for."""

    def __init__(self, flow: MemoryRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        self.told: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._append = flow.log.append
        monkeypatch.setattr(flow.log, "append", self._noted)

    def _noted(self, topic: str, value: object, **others: object) -> Message:
        message = self._append(topic, value, **others)  # type: ignore[arg-type]
        if topic == "episode-transcripts" and message.key is not None:
            self.keys.append(message.key.decode())
            self.told[self.keys[-1]].set()
        return message


def test_what_is_not_available_is_told_and_tried_again_with_growing_waits(host: Host) -> None:
    flow = started(host, 60.0, 600.0)
    publish(flow, host.link("/a.vtt", busy))
    flow.run(timers=False)
    (record,) = flow.log.decoded("episode-transcripts")
    assert (record["status"], record["reason"], record["attempt"]) == ("failed", "HTTP 503", 1)
    assert record["tried"] == [{"url": record["url"], "status": "failed", "reason": "HTTP 503"}]
    assert 0.8 * 60 <= record["retry_at"].timestamp() - host.clock.now() <= 1.2 * 60
    assert waiting(flow)[b"pi:1"]["attempt"] == 1
    for _ in range(4):
        host.clock.move(800)
        flow.run()
    assert told(flow) == [("failed", 1, True), ("failed", 2, True), ("failed", 3, False)]
    assert waiting(flow) == {}
    assert host.asked["/a.vtt"] <= 6  # one quick second try each time, none where it is blocked


def test_a_transcript_that_comes_late_is_taken(host: Host) -> None:
    flow = started(host, 60.0, 60.0, 60.0)
    publish(flow, host.link("/a.vtt", busy, busy, busy, busy, ok))
    flow.run(timers=False)
    for _ in range(3):
        host.clock.move(80)
        flow.run()
    assert told(flow) == [("failed", 1, True), ("failed", 2, True), ("ok", 3, False)]
    assert waiting(flow) == {}
    assert flow.log.decoded("episode-transcripts")[-1]["language"] == "de"


def test_a_host_that_asks_for_a_wait_gets_it_and_no_second_try(host: Host) -> None:
    def later() -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "600"})

    flow = started(host, 60.0)
    publish(flow, host.link("/a.vtt", later))
    publish(flow, host.link("/b.vtt", ok), key="pi:2")
    flow.run(timers=False)
    host.clock.move(300)
    flow.run()
    assert host.asked["/a.vtt"] == 1
    (one,) = (r for r in flow.log.decoded("episode-transcripts") if r["episode_id"] == "pi:1")
    assert one["retry_at"].timestamp() >= host.clock.now() + 300


def test_nothing_is_waited_for_within_the_handler(host: Host) -> None:
    flow = started(host, 60.0)
    for number in range(60):
        publish(flow, host.link(f"/{number}.vtt", busy), key=f"pi:{number}")
    flow.run(timers=False)  # the clock stands still
    assert len(waiting(flow)) == 60
    reasons = [r["reason"] for r in flow.log.decoded("episode-transcripts")]
    assert any(reason.startswith("circuit open until") for reason in reasons)
    assert sum(host.asked.values()) < 80


def test_new_links_supersede_those_that_wait(host: Host) -> None:
    flow = started(host, 60.0, 60.0)
    publish(flow, host.link("/old.vtt", busy))
    flow.run(timers=False)
    publish(flow, host.link("/new.vtt", ok))
    flow.run(timers=False)
    asked = host.asked["/old.vtt"]
    host.clock.move(80)
    flow.run()
    assert told(flow) == [("failed", 1, True), ("ok", 1, False)]
    assert waiting(flow) == {}
    assert host.asked["/old.vtt"] == asked


def test_an_edit_while_a_retry_is_under_way_is_not_overtaken(host: Host) -> None:
    flow = started(host, 60.0, 60.0)
    publish(flow, host.link("/old.vtt", busy))
    flow.run(timers=False)
    context = flow.start("fetch_transcripts")
    handler = context.agents["episode-metadata"].handle
    retry = context.timers[-1]
    host.clock.move(80)

    async def both() -> None:
        host.link("/old.vtt", ok)
        host.kept_back.add("/old.vtt")
        retrying: asyncio.Task[Any] = asyncio.create_task(retry())
        await asyncio.to_thread(host.held.wait, 20)
        publish(flow, host.link("/new.vtt", ok))
        message = flow.log.records("episode-metadata")[-1]
        await handler([message])
        host.goes_on.set()
        await retrying

    asyncio.run(both())
    urls = [r["url"] for r in flow.log.decoded("episode-transcripts") if r["status"] == "ok"]
    assert [url.rpartition("/")[2] for url in urls] == ["new.vtt"]
    assert waiting(flow) == {}


def test_the_same_links_told_again_keep_their_place(host: Host) -> None:
    flow = started(host, 60.0)
    publish(flow, host.link("/a.vtt", busy))
    flow.run(timers=False)
    before, asked = waiting(flow), host.asked["/a.vtt"]
    publish(flow, {"url": f"http://{host.address}/a.vtt", "type": "text/vtt"}, title="edited")
    flow.crash("fetch_transcripts", redeliver=1)
    flow.run()
    assert waiting(flow) == before
    assert host.asked["/a.vtt"] == asked
    assert len(told(flow)) == 1


def test_what_waits_is_tried_at_the_newest_address_that_was_told(host: Host) -> None:
    asked: list[str] = []

    async def if_fresh(request: web.Request) -> web.Response:
        asked.append(request.query["token"])
        return busy() if request.query["token"] == "monday" else ok()

    with served(answering(if_fresh)) as host.address:
        flow = started(host, 60.0, 60.0)

        def signed(day: str) -> dict[str, str]:
            return {"url": f"http://{host.address}/a.vtt?token={day}", "type": "text/vtt"}

        publish(flow, signed("monday"))
        flow.run(timers=False)
        before = waiting(flow)[b"pi:1"]
        publish(flow, signed("tuesday"), title="another")
        flow.run(timers=False)
        waits = waiting(flow)[b"pi:1"]
        assert [link["url"][-7:] for link in waits["transcripts"]] == ["tuesday"]
        assert {**waits, "transcripts": before["transcripts"]} == before
        asked.clear()
        host.clock.move(80)
        flow.run()
    assert set(asked) == {"tuesday"}
    assert told(flow)[-1][0] == "ok"
    assert waiting(flow) == {}


def test_an_address_of_before_does_not_come_back(host: Host) -> None:
    flow = started(host, 60.0, 60.0)
    link = host.link("/a.vtt", busy)
    for day in ("monday", "tuesday"):
        publish(flow, link | {"url": f"{link['url']}?token={day}"})
        flow.run(timers=False)
    context = flow.start("fetch_transcripts")
    handler = context.agents["episode-metadata"].handle
    asyncio.run(handler([flow.log.records("episode-metadata")[0]]))
    (waits,) = waiting(flow).values()
    assert waits["transcripts"][0]["url"].endswith("tuesday")


def test_an_edit_and_back_is_fetched_each_time(host: Host) -> None:
    flow = started(host)
    first, second = host.link("/a.vtt", ok), host.link("/b.vtt", ok)
    for link in (first, second, first):
        publish(flow, link)
        flow.run()
    assert [r["url"] for r in flow.log.decoded("episode-transcripts")] == [
        first["url"],
        second["url"],
        first["url"],
    ]


def test_of_a_batch_the_newest_record_of_an_episode_counts(host: Host) -> None:
    flow = started(host)
    publish(flow, host.link("/a.vtt", ok))
    publish(flow, host.link("/b.vtt", ok))
    flow.log.append("episode-metadata", b"garbage", key="pi:1")
    flow.run()
    assert host.asked == Counter({"/b.vtt": 1})
    assert len(flow.log.records("episode-metadata.dlq")) == 1


def test_a_withdrawn_episode_has_no_transcript_and_waits_for_none(host: Host) -> None:
    flow = started(host, 60.0)
    publish(flow, host.link("/a.vtt", busy))
    flow.run(timers=False)
    flow.log.append("episode-metadata", None, key="pi:1")
    flow.run(timers=False)
    asked = host.asked["/a.vtt"]
    host.clock.move(80)
    flow.run()
    values = [m.value for m in flow.log.records("episode-transcripts")]
    assert [value is None for value in values] == [False, True]
    assert waiting(flow) == {}
    assert host.asked["/a.vtt"] == asked
    # and if it comes back, it is fetched again
    publish(flow, host.link("/a.vtt", ok))
    flow.run()
    last = flow.log.records("episode-transcripts")[-1]
    assert flow.log.wire.decode(last.topic, last.value)["status"] == "ok"


@pytest.mark.parametrize("redeliver", [0, 1, 2])
def test_a_kill_at_any_moment_loses_no_retry(host: Host, redeliver: int) -> None:
    flow = started(host, 60.0, 60.0, 60.0)
    for number in range(2):
        publish(flow, host.link(f"/{number}.vtt", busy, busy, ok), key=f"pi:{number}")
    flow.run(timers=False)
    assert len(waiting(flow)) == 2
    for _ in range(3):
        flow.crash("fetch_transcripts", redeliver=redeliver)
        host.clock.move(80)
        flow.run()
    newest = {r["episode_id"]: r["status"] for r in flow.log.decoded("episode-transcripts")}
    assert newest == {"pi:0": "ok", "pi:1": "ok"}
    assert waiting(flow) == {}


def test_a_worse_link_that_delivers_is_taken_and_the_better_ones_fault_recorded(
    host: Host,
) -> None:
    def page() -> web.Response:
        return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")

    flow = started(host, 60.0)
    plain = host.link("/c.txt", lambda: web.Response(text="Some words."))
    links = (host.link("/a.vtt", page), host.link("/b.srt", busy), plain | {"type": "text/plain"})
    publish(flow, *(link | {"type": ""} for link in links[:2]), links[2])
    flow.run()
    (record,) = flow.log.decoded("episode-transcripts")
    assert (record["status"], record["format"], record["retry_at"]) == ("ok", "text", None)
    assert [(t["url"].rpartition("/")[2], t["reason"]) for t in record["tried"]] == [
        ("a.vtt", "a web page where vtt was announced"),
        ("b.srt", "HTTP 503"),
    ]
    assert waiting(flow) == {}


def test_what_lasts_is_not_tried_again(host: Host) -> None:
    flow = started(host, 60.0)
    audio = host.link("/a.mp3", lambda: web.Response(body=b"ID3", content_type="audio/mpeg"))
    publish(flow, audio, key="pi:1")
    publish(flow, host.link("/gone.vtt", lambda: web.Response(status=410)), key="pi:2")
    publish(flow, host.link("/a.vtt", lambda: web.Response(status=404)), key="pi:3")
    publish(flow, key="pi:4")
    flow.run(timers=False)
    records = {r["episode_id"]: r for r in flow.log.decoded("episode-transcripts")}
    assert {key: (r["status"], r["attempt"]) for key, r in records.items()} == {
        "pi:1": ("refused", 1),
        "pi:2": ("failed", 1),
        "pi:3": ("failed", 1),
        "pi:4": ("none", 0),
    }
    assert {r["retry_at"] for r in records.values()} == {None}
    assert waiting(flow) == {}


def test_a_transcript_beyond_the_limit_is_refused_with_both_sizes(host: Host) -> None:
    flow = started(host, 60.0, fetch_max_bytes=10_000)
    huge = host.link("/huge.vtt", lambda: web.Response(body=b"x" * 30_000, content_type="text/vtt"))
    publish(flow, huge)
    flow.run()
    (record,) = flow.log.decoded("episode-transcripts")
    assert (record["status"], record["reason"]) == (
        "refused",
        "too large: it is 30,000 bytes; 10,000 are allowed (FETCH_MAX_BYTES)",
    )


def test_the_language_is_the_episodes_or_else_what_is_heard(host: Host) -> None:
    flow = started(host)
    for key, language in (("pi:1", "de-at"), ("pi:2", ""), ("pi:3", "und")):
        publish(flow, host.link(f"/{key[3]}.vtt", ok), key=key, language=language)
    flow.run()
    found = {r["episode_id"]: r["language"] for r in flow.log.decoded("episode-transcripts")}
    assert found == {"pi:1": "de-at", "pi:2": "de", "pi:3": "de"}


def test_a_retry_is_due_in_utc(host: Host) -> None:
    flow = started(host, 60.0)
    publish(flow, host.link("/a.vtt", busy))
    flow.run(timers=False)
    due = waiting(flow)[b"pi:1"]["due_at"]
    assert due.utcoffset().total_seconds() == 0
    assert 48 <= due.timestamp() - host.clock.now() <= 72


def newest(flow: MemoryRuntime) -> dict[str, dict[str, Any]]:
    return {r["episode_id"]: r for r in flow.log.decoded("episode-transcripts")}


def test_the_batch_does_not_wait_for_a_slow_host_and_the_timer_goes_on_with_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = started(host, 60.0)
    for number in range(4):
        path = f"/slow{number}.vtt"
        host.kept_back.add(path)
        publish(flow, host.link(path, ok), key=f"slow:{number}", language="de")
    publish(flow, host.link("/fast.vtt", ok), key="fast", language="de")
    handler = flow.start("fetch_transcripts").agents["episode-metadata"].handle

    async def one_batch() -> None:
        telling = Telling(flow, monkeypatch)
        handling: asyncio.Task[Any] = asyncio.create_task(
            handler(flow.log.records("episode-metadata"))
        )
        await telling.told["fast"].wait()
        host.clock.move(FIRST_TRIES_S)
        await handling

    asyncio.run(one_batch())
    assert newest(flow).keys() == {"fast"}
    assert {w["attempt"] for w in waiting(flow).values()} == {0}
    assert len(waiting(flow)) == 4
    # Told again, they keep their place; and a kill loses none.
    host.goes_on.set()
    flow.crash("fetch_transcripts", redeliver=10)
    flow.run()
    assert {(r["status"], r["attempt"]) for r in newest(flow).values()} == {("ok", 1)}
    assert len(newest(flow)) == 5
    assert waiting(flow) == {}


def test_what_is_done_is_told_before_the_batch_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = started(host, 60.0)
    host.kept_back.add("/slow.vtt")
    publish(flow, host.link("/slow.vtt", ok), key="pi:1", language="de")
    publish(flow, host.link("/fast.vtt", ok), key="pi:5", language="de")
    messages = flow.log.records("episode-metadata")
    handler = flow.start("fetch_transcripts").agents["episode-metadata"].handle

    async def first_told() -> list[str]:
        telling = Telling(flow, monkeypatch)
        handling: asyncio.Task[Any] = asyncio.create_task(handler(messages))
        await telling.told["pi:5"].wait()
        told_first = [*newest(flow)]
        host.goes_on.set()
        await handling
        return told_first

    assert asyncio.run(first_told()) == ["pi:5"]
    assert newest(flow).keys() == {"pi:1", "pi:5"}


def overdue(flow: MemoryRuntime, key: str, link: dict[str, str], since_s: float = 60.0) -> None:
    """Let an episode wait that was due a while ago."""
    at = flow.log.clock.now() - since_s
    record = retry_record({"episode_id": key, "transcripts": [link]}, 1, at, at)
    rows = {(0, key.encode()): encode_retry(record)}
    flow.put_rows("fetch_transcripts", TRANSCRIPT_RETRIES, rows)


def test_a_slow_host_has_its_part_of_the_retries_and_no_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Host()
    with served(answering(other.handle)) as other.address:
        flow = started(host, 60.0, fetch_allow_hosts=f"{host.address},{other.address}")
        for number in range(40):
            host.kept_back.add(f"/{number}.vtt")
            overdue(flow, f"slow:{number}", host.link(f"/{number}.vtt", ok), 100.0 + number)
        for number in range(10):
            overdue(flow, f"fast:{number}", other.link(f"/{number}.vtt", ok), 50.0)
        retry = flow.start("fetch_transcripts").timers[-1]

        async def retried() -> list[str]:
            telling = Telling(flow, monkeypatch)
            retrying: asyncio.Task[Any] = asyncio.create_task(retry())
            for number in range(10):
                await telling.told[f"fast:{number}"].wait()
            assert {key[:4] for key in telling.keys} == {"fast"}
            assert host.asked.total() == RETRIES_OF_A_HOST
            host.goes_on.set()
            await retrying
            return telling.keys

        keys = asyncio.run(retried())
    assert len(keys) == len(set(keys)) == 50
    assert waiting(flow) == {}


def test_an_attempt_of_the_timer_ends_and_counts(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shorter than one fetch: several slow ones together would take longer than the real limit.
    monkeypatch.setattr(fetch_transcripts, "RETRY_TIMEOUTS", 0.1)
    flow = started(host, 60.0, 60.0, fetch_timeout_s=30.0)
    host.kept_back.add("/a.vtt")
    overdue(flow, "pi:1", host.link("/a.vtt", ok))
    retry = flow.start("fetch_transcripts").timers[-1]

    async def too_slow() -> None:
        retrying: asyncio.Task[Any] = asyncio.create_task(retry())
        await asyncio.to_thread(host.held.wait, 20)
        host.clock.move(3)
        await retrying

    asyncio.run(too_slow())
    assert told(flow) == [("failed", 2, True)]
    assert newest(flow)["pi:1"]["reason"] == "not done with the links within 3 s"


def test_a_cancelled_retry_leaves_nothing_under_way(host: Host) -> None:
    flow = started(host, 60.0)
    host.kept_back.add("/a.vtt")
    overdue(flow, "pi:1", host.link("/a.vtt", ok))
    before = waiting(flow)
    retry = flow.start("fetch_transcripts").timers[-1]

    async def stopped() -> set[asyncio.Task[Any]]:
        retrying: asyncio.Task[Any] = asyncio.create_task(retry())
        await asyncio.to_thread(host.held.wait, 20)
        retrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await retrying
        return {task for task in asyncio.all_tasks() if not task.cancelling()} - {
            asyncio.current_task()
        }

    assert asyncio.run(stopped()) == set()
    assert waiting(flow) == before
    assert told(flow) == []


def test_of_many_links_the_best_ones_are_tried(host: Host) -> None:
    flow = started(host)
    gone = [host.link(f"/{n}.txt", lambda: web.Response(status=404)) for n in range(19)]
    publish(flow, *(link | {"type": "text/plain"} for link in gone), host.link("/a.vtt", ok))
    flow.run()
    assert host.asked == Counter({"/a.vtt": 1})
    publish(flow, *(link | {"type": "text/plain"} for link in gone))
    flow.run()
    assert newest(flow)["pi:1"]["reason"] == "HTTP 404"
    assert sum(host.asked.values()) == 1 + 6


def test_who_is_not_asked_has_not_failed(host: Host) -> None:
    flow = started(host)
    for number in range(24):
        answer = ok if number >= 20 else busy
        publish(flow, host.link(f"/{number}.vtt", answer), key=f"pi:{number}")
    flow.run(timers=False)
    good, ends_at = [f"pi:{n}" for n in range(20, 24)], host.clock.now() + 1.5 * 86_400
    while {newest(flow)[key]["status"] for key in good} != {"ok"} and host.clock.now() < ends_at:
        host.clock.move(60)
        flow.run()
    found = newest(flow)
    assert [(found[key]["status"], found[key]["attempt"]) for key in good] == [("ok", 1)] * 4


def test_a_host_that_stays_dead_is_given_up_after_a_while(host: Host) -> None:
    flow = started(host, 10.0, 20.0)
    publish(flow, *(host.link(f"/{n}.vtt", busy) for n in range(6)), key="pi:0")
    overdue(flow, "pi:1", host.link("/a.vtt", busy), 1.26 * 30)
    overdue(flow, "pi:2", host.link("/b.vtt", busy), 30)
    flow.crash("fetch_transcripts")
    flow.run()  # the first one opens the circuit
    found = newest(flow)
    assert found["pi:1"]["reason"].startswith("circuit open")
    assert host.asked["/a.vtt"] == host.asked["/b.vtt"] == 0
    assert (found["pi:1"]["attempt"], found["pi:1"]["retry_at"]) == (1, None)
    assert found["pi:2"]["retry_at"] is not None
    assert waiting(flow)[b"pi:2"]["attempt"] == 1


def test_a_wait_that_is_no_date_is_a_day(host: Host) -> None:
    def never() -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "999999999999"})

    flow = started(host, 60.0)
    publish(flow, host.link("/a.vtt", never))
    flow.run(timers=False)
    due = newest(flow)["pi:1"]["retry_at"].timestamp()
    assert due - host.clock.now() == pytest.approx(86_400 + 60, abs=30)


@pytest.mark.parametrize("answer", [ok, lambda: web.Response(status=404)])
def test_after_a_restart_the_same_links_are_not_fetched_again(host: Host, answer: Answer) -> None:
    flow = started(host, 60.0)
    link = host.link("/a.vtt", answer)
    publish(flow, link)
    flow.run()
    before = told(flow)
    for title in ("edited", "edited again"):
        flow.crash("fetch_transcripts", redeliver=2)
        publish(flow, link, title=title)
        flow.run()
    assert host.asked["/a.vtt"] == 1
    assert told(flow) == before


def test_after_a_restart_what_has_failed_for_good_is_not_begun_anew(host: Host) -> None:
    flow = started(host, 60.0)
    link = host.link("/a.vtt", busy)
    publish(flow, link)
    flow.run(timers=False)
    host.clock.move(80)
    flow.run()
    assert told(flow)[-1] == ("failed", 2, False)
    flow.crash("fetch_transcripts", redeliver=1)
    publish(flow, link, title="edited")
    flow.run()
    assert len(told(flow)) == 2


def test_an_older_record_that_comes_again_does_not_undo_a_newer_one(host: Host) -> None:
    flow = started(host, 60.0)
    publish(flow, host.link("/old.vtt", ok))
    flow.run(timers=False)
    publish(flow, host.link("/new.vtt", busy))
    flow.run(timers=False)
    before = waiting(flow)
    handler = flow.start("fetch_transcripts").agents["episode-metadata"].handle
    asyncio.run(handler(flow.log.records("episode-metadata")[:1]))
    assert host.asked["/old.vtt"] == 1
    assert waiting(flow) == before
    assert len(told(flow)) == 2


def test_a_retry_leaves_alone_what_another_worker_let_wait_meanwhile(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = started(host, 60.0)
    link = host.link("/a.vtt", ok)
    overdue(flow, "pi:1", link)
    context = flow.start("fetch_transcripts")
    table, at = context.table(TRANSCRIPT_RETRIES), host.clock.now() + 600
    newer = encode_retry(retry_record({"episode_id": "pi:1", "transcripts": [link]}, 2, at, at))
    flush = context.flush

    async def away_and_back() -> None:
        """The partition leaves while what was fetched is flushed, and comes back changed."""
        await flush()
        monkeypatch.setattr(context, "flush", flush)
        table.put(0, b"pi:1", newer)

    monkeypatch.setattr(context, "flush", away_and_back)
    asyncio.run(context.timers[-1]())
    assert told(flow) == [("ok", 2, False)]
    assert table.get(0, b"pi:1") == newer
