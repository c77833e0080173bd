"""`transcribe_audio`: real downloads from a server that cuts them, and a stand-in that listens."""

from __future__ import annotations

import asyncio
import builtins
import io
import math
import struct
import threading
import wave
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pytest
from aiohttp import web

from schemas import files
from streams.http.retries import NEVER_MS
from streams.runtime.in_memory import MemoryRuntime
from streams.transcripts import transcribe_audio
from streams.transcripts.asr import (
    AudioError,
    MissingExtraError,
    Transcription,
    WhisperTranscriber,
    check_length,
)
from streams.transcripts.core.segments import segment
from streams.transcripts.transcribe_audio import FIRST_PAUSE_S
from tests.clocks import StandingClock
from tests.served import answering, served
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import AUDIO_QUEUE


def tone(seconds: float = 2.0, rate: int = 8000) -> bytes:
    """A short WAV file: a tone."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = (int(9000 * math.sin(n / 5)) for n in range(int(seconds * rate)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return made.getvalue()


AUDIO = tone()
RETRY_S = 60.0
PAUSE_S = 1.3 * RETRY_S


class Disk:
    """How much of a file has been written: what is cut off before it is read is lost."""

    def __init__(self) -> None:
        self._written = 0
        self._changed = threading.Condition()

    def wait_for(self, size: int) -> None:
        """Return when that much of the file is there."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._written >= size, 20)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note what is written to files that are being downloaded."""
        opened = Path.open

        def open_noted(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = opened(path, mode, *args, **options)
            return _NotedFile(file, self._note) if path.suffix == ".part" else file

        monkeypatch.setattr(Path, "open", open_noted)

    def _note(self, size: int) -> None:
        with self._changed:
            self._written = size
            self._changed.notify_all()


class _NotedFile:
    def __init__(self, file: Any, note: Callable[[int], None]) -> None:
        self._file = file
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _NotedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._note(self._file.tell())


class Server:
    """Serves AUDIO; a test says how it misbehaves."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[tuple[str, str]] = []
        self.cut_after: list[int] = []
        """Bytes after which each answer is cut, one after another."""
        self.body = AUDIO
        self.etag = '"one"'
        self.mime = "audio/wav"
        self.ranges = True
        self.status = 200
        self.endless = False
        self.disk = Disk()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked, condition = request.headers.get("Range", ""), request.headers.get("If-Range", "")
        self.asked.append((asked, condition))
        if self.status != 200:
            return web.Response(status=self.status)
        if self.endless:
            response = web.StreamResponse(headers={"Content-Type": self.mime})
            await response.prepare(request)
            while True:
                await response.write(b"x" * 10_000)
        start = 0
        if asked and self.ranges and condition == self.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        body, headers = self.body[start:], {"Content-Type": self.mime}
        if self.etag:
            headers["ETag"] = self.etag
        if start:
            end = len(self.body)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
        headers["Content-Length"] = str(len(body))
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if self.cut_after:
            cut = self.cut_after.pop(0)
            await response.write(body[:cut])
            await asyncio.to_thread(self.disk.wait_for, start + cut)
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(body)
        return response


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with served(answering(made.handle)) as made.address:
        yield made


class StandIn:
    """A transcriber that reads the file as audio, and says how long it was."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.faults: list[Exception] = []
        """What loading raises, one after another."""

    def hold(self, hearing: threading.Event, going_on: threading.Event) -> None:
        """Say when something is being transcribed, and wait before it is done."""

        def wait() -> None:
            hearing.set()
            going_on.wait(20)

        self.meanwhile = wait

    def load(self) -> None:
        if self.faults:
            raise self.faults.pop(0)

    def transcribe(self, path: Path, language: str, max_s: float) -> Transcription:
        self.heard.append(path.read_bytes())
        try:
            with wave.open(str(path)) as file:
                length_s = file.getnframes() / file.getframerate()
        except (wave.Error, EOFError) as error:
            raise AudioError("no audio that can be read") from error
        check_length(length_s, max_s)
        self.meanwhile()
        said = segment(0, round(length_s * 1000), "", f"A tone of {length_s:g} seconds.")
        return Transcription([said], language or "en")


class Flow:
    def __init__(
        self, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
    ) -> None:
        self.listener = StandIn()
        self.clock = StandingClock()
        self._address = server.address
        self.home = home
        server.disk.watch(monkeypatch)
        given = transcribe_audio.register
        monkeypatch.setattr(transcribe_audio, "register", lambda c: given(c, self.listener))
        values = {
            "podstream_home": home,
            "fetch_allow_hosts": server.address,
            "fetch_retry_s": f"{RETRY_S},{RETRY_S}",
            "fetch_backoff_s": 0.001,
            "transcribe_audio": True,
            **settings,
        }
        self.runtime = MemoryRuntime(
            build_graph(2), Settings.model_validate(values), clock=self.clock
        )
        for stage in ("fetch_transcripts", "transcribe_audio"):
            self.runtime.start(stage)

    def publish(self, key: str = "pi:1", path: str = "/a.wav", **values: object) -> None:
        record = {"episode_id": key, "title": "t", "show_id": "pi:2", "show_title": "s"} | {
            "source": "podcastindex",
            "transcripts": [],
            "enclosure_url": f"http://{self._address}{path}",
            **values,
        }
        self.runtime.log.append("episode-metadata", record, key=key)

    def run(self) -> None:
        self.runtime.run()

    def run_later(self) -> None:
        """Run once what failed is due again, and hosts have had their rest."""
        self.clock.move(PAUSE_S)
        self.run()

    def told(self) -> list[tuple[str, str]]:
        records = self.runtime.log.decoded("episode-transcripts")
        return [(r["status"], r["format"] or r["reason"]) for r in records]

    def files(self) -> list[str]:
        folder = self.home / "sound"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


Make = Callable[..., Flow]


@pytest.fixture
def make(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    return lambda **settings: Flow(server, tmp_path, monkeypatch, **settings)


QUEUED = ("none", "none is listed; the audio is to be transcribed")


def test_an_episode_without_a_transcript_is_heard_and_nothing_is_left_behind(make: Make) -> None:
    flow = make()
    flow.publish(language="en-gb")
    flow.run()
    assert flow.told() == [QUEUED, ("ok", "asr")]
    record = flow.runtime.log.decoded("episode-transcripts")[-1]
    assert record["text"] == "A tone of 2 seconds."
    assert record["url"].endswith("/a.wav")
    assert (record["language"], record["attempt"]) == ("en-gb", 1)
    assert record["segments"] == [
        {"start_ms": 0, "end_ms": 2000, "speaker": "", "text": "A tone of 2 seconds."}
    ]
    assert flow.listener.heard == [AUDIO]
    assert flow.files() == []


def test_a_download_goes_on_where_it_was_cut(make: Make, server: Server) -> None:
    server.cut_after = [10_000, 5_000]
    flow = make()
    flow.publish()
    flow.run()
    assert flow.told()[-1] == ("ok", "asr")
    assert flow.listener.heard == [AUDIO]
    starts = [asked for asked, _ in server.asked]
    assert starts == ["", "bytes=10000-", "bytes=15000-"]
    assert [condition for _, condition in server.asked] == ["", '"one"', '"one"']


def test_after_a_kill_the_rest_is_fetched_and_not_the_whole(make: Make, server: Server) -> None:
    server.cut_after = [10_000, 0]
    flow = make()
    flow.publish()
    flow.run()
    assert flow.told()[-1][0] == "failed"
    assert len(flow.files()) == 2
    flow.runtime.crash("transcribe_audio", redeliver=1)
    flow.run_later()
    assert flow.told()[-1] == ("ok", "asr")
    assert server.asked[-1] == ("bytes=10000-", '"one"')
    assert flow.files() == []


@pytest.mark.parametrize("how", ["changed", "weak", "no validator", "ranges ignored"])
def test_parts_of_two_files_are_never_put_together(make: Make, server: Server, how: str) -> None:
    server.cut_after = [10_000, 0]
    server.etag = {"weak": 'W/"one"', "no validator": ""}.get(how, '"one"')
    flow = make()
    flow.publish()
    flow.run()
    server.body = tone(1.0)
    server.etag = '"two"' if how == "changed" else server.etag
    server.ranges = how != "ranges ignored"
    flow.run_later()
    assert flow.listener.heard == [server.body]


def test_a_server_that_answers_with_another_part_is_not_believed(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cut_after = [10_000]
    flow = make()
    flow.publish()
    real = web.StreamResponse.__init__

    def lying(self: web.StreamResponse, *args: object, **kwargs: object) -> None:
        headers = kwargs.get("headers")
        if isinstance(headers, dict) and "Content-Range" in headers:
            headers["Content-Range"] = f"bytes 9000-{len(AUDIO) - 1}/{len(AUDIO)}"
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(web.StreamResponse, "__init__", lying)
    for _ in range(3):
        flow.run_later()
    assert all(heard == AUDIO for heard in flow.listener.heard)


@pytest.mark.parametrize(
    ("settings", "mime", "values", "why"),
    [
        ({"transcribe_max_bytes": 1000}, "audio/wav", {}, "too large: it is 32,044 bytes; 1,000"),
        ({"transcribe_max_s": 60}, "audio/wav", {"duration_s": 61}, "longer than the 60 seconds"),
        ({"transcribe_max_s": 1}, "audio/wav", {}, "longer than the 1 seconds"),
        ({}, "text/html", {}, "the server sent 'text/html' where an audio file was expected"),
    ],
)
def test_what_is_too_large_too_long_or_no_audio_is_refused_for_good(
    make: Make,
    server: Server,
    settings: dict[str, Any],
    mime: str,
    values: dict[str, Any],
    why: str,
) -> None:
    server.mime = mime
    flow = make(**settings)
    flow.publish(**values)
    for _ in range(2):
        flow.run_later()
    assert [status for status, _ in flow.told()] == ["none", "refused"]
    assert why in flow.told()[1][1]
    assert flow.files() == []


def test_a_file_beyond_the_cap_that_does_not_announce_it_is_cut_off(
    make: Make, server: Server
) -> None:
    server.endless = True
    flow = make(transcribe_max_bytes=100_000)
    flow.publish()
    flow.run()
    assert flow.told()[-1] == ("refused", "too large: it is more than the 100,000 bytes allowed")
    assert flow.files() == []


def test_audio_that_is_not_available_is_tried_again_and_then_no_more(
    make: Make, server: Server
) -> None:
    server.status = 503
    flow = make()
    flow.publish()
    for _ in range(5):
        flow.run_later()
    assert [status for status, _ in flow.told()] == ["none", "failed", "failed", "failed"]
    again = [r["retry_at"] is not None for r in flow.runtime.log.decoded("episode-transcripts")]
    assert again == [False, True, True, False]


def test_inside_addresses_are_refused(make: Make) -> None:
    flow = make()
    flow.publish(enclosure_url="http://169.254.169.254/latest/meta-data")
    flow.run()
    assert flow.told()[-1] == ("refused", "169.254.169.254 is not a public address")


def test_what_was_heard_outlives_repeats_restarts_and_edits_of_other_things(make: Make) -> None:
    flow = make()
    flow.publish()
    flow.run()
    flow.publish(title="a new title")
    for stage in ("fetch_transcripts", "transcribe_audio"):
        flow.runtime.crash(stage, redeliver=5)
    flow.run()
    # What was heard may be told twice, like all that comes again after a kill.
    assert list(dict.fromkeys(flow.told())) == [QUEUED, ("ok", "asr")]
    assert len(flow.listener.heard) == 1


def test_a_publishers_transcript_is_never_overwritten(make: Make, server: Server) -> None:
    flow = make()
    listed = [{"url": f"http://{server.address}/a.txt", "type": "text/plain"}]
    flow.publish()
    hearing, going_on = threading.Event(), threading.Event()
    flow.listener.hold(hearing, going_on)

    async def meanwhile_handled() -> None:
        """The edit is read while the audio is being transcribed."""
        queue = flow.runtime._contexts["transcribe_audio"].agents["episode-metadata"].handle
        work = flow.runtime._contexts["transcribe_audio"].timers[-1]
        await queue(flow.runtime.log.records("episode-metadata"))
        working: asyncio.Task[Any] = asyncio.create_task(work())
        await asyncio.to_thread(hearing.wait, 20)
        flow.publish(transcripts=listed)
        await queue(flow.runtime.log.records("episode-metadata")[1:])
        going_on.set()
        await working

    asyncio.run(meanwhile_handled())
    server.mime = "text/plain"
    server.body = b"What the publisher wrote."
    flow.run()
    assert flow.told()[-1] == ("ok", "text")
    assert ("ok", "asr") not in flow.told()


def test_episodes_with_links_or_without_audio_are_left_to_the_other_stage(
    make: Make, server: Server
) -> None:
    server.status = 404
    flow = make()
    listed = [{"url": f"http://{server.address}/a.vtt", "type": "text/vtt"}]
    flow.publish("pi:1", transcripts=listed)
    flow.publish("pi:2", enclosure_url="")
    flow.publish("x:3", source="import")
    flow.runtime.log.append("episode-metadata", None, key="pi:4")
    flow.run()
    records = flow.runtime.log.records("episode-transcripts")
    values = [flow.runtime.log.wire.decode(m.topic, m.value) for m in records if m.value]
    assert {r["episode_id"]: r["status"] for r in values} == {"pi:1": "failed", "pi:2": "none"}
    assert flow.listener.heard == []


def test_an_unknown_fault_stops_no_other_and_is_tried_again(make: Make) -> None:
    flow = make()
    original = flow.listener.transcribe

    def moody(path: Path, language: str, max_s: float) -> Transcription:
        if len(flow.listener.heard) == 0:
            flow.listener.heard.append(b"")
            raise MemoryError("no room for the audio")
        return original(path, language, max_s)

    flow.listener.transcribe = moody  # type: ignore[method-assign]
    flow.publish("pi:1", path="/1.wav")
    flow.publish("pi:2", path="/2.wav")
    for _ in range(3):
        flow.run_later()
    assert sorted(status for status, _ in flow.told()) == ["failed", "none", "none", "ok", "ok"]
    (failed,) = (
        r for r in flow.runtime.log.decoded("episode-transcripts") if r["status"] == "failed"
    )
    assert failed["reason"] == "transcribing failed: MemoryError: no room for the audio"
    assert failed["retry_at"] is not None
    assert flow.files() == []


def test_nothing_is_taken_until_the_model_is_loaded(
    make: Make, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    flow = make()
    flow.listener.faults = [OSError("the hub cannot be reached"), MemoryError("no room")]
    for number in range(5):
        flow.publish(f"pi:{number}")
    flow.run()
    flow.run()  # the pause is not over
    assert flow.told() == [QUEUED] * 5
    assert server.asked == []
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("the transcriber cannot be loaded (OSError: the hub cannot be reached)")
    flow.clock.move(FIRST_PAUSE_S)
    flow.run()
    assert "MemoryError" in caplog.text
    flow.clock.move(FIRST_PAUSE_S)
    flow.run()  # the second pause is twice as long
    assert flow.told() == [QUEUED] * 5
    flow.clock.move(FIRST_PAUSE_S)
    flow.run()
    assert sorted(flow.told()) == [QUEUED] * 5 + [("ok", "asr")] * 5
    assert len(caplog.records) == 2


def test_a_source_that_may_not_be_asked_costs_no_attempt(make: Make, server: Server) -> None:
    server.status = 503
    flow = make(fetch_rest_s=600)
    for number in range(7):
        flow.publish(f"pi:{number}", path=f"/{number}.wav")
    for _ in range(3):
        flow.run_later()
    told = {r["episode_id"]: r for r in flow.runtime.log.decoded("episode-transcripts")}
    counted = sorted(r["attempt"] for r in told.values() if r["status"] == "failed")
    assert counted[:2] == [0, 0]
    assert sum(counted) == len(server.asked) == 5


def test_transcribing_takes_no_thread_of_others(make: Make) -> None:
    flow = make()
    threads: list[str] = []
    flow.listener.meanwhile = lambda: threads.append(threading.current_thread().name)
    flow.publish("pi:1")
    flow.publish("pi:2")
    flow.run()
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert threads[0].startswith("transcribe")


def test_little_is_kept_of_what_was_heard(make: Make) -> None:
    flow = make()
    flow.publish()
    flow.run()
    (value,) = flow.runtime.rows("transcribe_audio", AUDIO_QUEUE).values()
    assert len(value) == 16
    flow.publish(path="/other.wav")
    flow.run()
    assert len(flow.listener.heard) == 2


def test_what_an_older_release_has_heard_is_heard_anew_once_it_is_edited(
    make: Make, server: Server
) -> None:
    """The other stage, which did not keep then what it had told, says that nothing is listed."""
    flow = make()
    url = f"http://{server.address}/a.wav"
    task = {"episode_id": "pi:1", "url": url, "language": "en", "duration_s": None, "attempt": 1}
    old = io.BytesIO()
    fastavro.schemaless_writer(old, files.parsed("audio_task", 1), task | {"due_at": None})
    value = struct.pack(">q", NEVER_MS) + old.getvalue()
    partition = zlib.crc32(b"pi:1") % 2
    flow.runtime.put_rows("transcribe_audio", AUDIO_QUEUE, {(partition, b"pi:1"): value})
    flow.run()
    assert flow.listener.heard == []
    flow.publish()
    flow.run()
    assert flow.told() == [QUEUED, ("ok", "asr")]


def test_what_waited_in_an_older_release_is_heard(make: Make, server: Server) -> None:
    flow = make()
    url = f"http://{server.address}/a.wav"
    due_at = datetime.fromtimestamp(flow.clock.now() - 9, UTC)
    task = {"episode_id": "pi:1", "url": url, "language": "en", "duration_s": None, "attempt": 1}
    old = io.BytesIO()
    fastavro.schemaless_writer(old, files.parsed("audio_task", 1), task | {"due_at": due_at})
    value = struct.pack(">q", int(due_at.timestamp() * 1000)) + old.getvalue()
    partition = zlib.crc32(b"pi:1") % 2
    flow.runtime.put_rows("transcribe_audio", AUDIO_QUEUE, {(partition, b"pi:1"): value})
    flow.run()
    assert flow.told() == [("ok", "asr")]
    assert flow.runtime.log.decoded("episode-transcripts")[0]["attempt"] == 2


@pytest.mark.parametrize("how", ["links", "withdrawn"])
@pytest.mark.parametrize("told_first", [True, False])
def test_what_was_heard_is_nothing_once_the_publisher_has_said_otherwise(
    make: Make, server: Server, how: str, told_first: bool
) -> None:
    """The queue reads later than the stage that tells, and the other way round."""
    flow = make()
    contexts = flow.runtime._contexts
    flow.publish()
    flow.runtime.run(timers=False)
    server.mime, server.body = "text/plain", AUDIO
    if how == "links":
        flow.publish(transcripts=[{"url": f"http://{server.address}/a.txt", "type": "text/plain"}])
    else:
        flow.runtime.log.append("episode-metadata", None, key="pi:1")
    late = "transcribe_audio" if told_first else "fetch_transcripts"
    work = contexts["transcribe_audio"].timers[-1]
    left_out = contexts.pop(late)
    if told_first:
        server.body = b"What the publisher wrote."
        flow.runtime.run(timers=False)
        server.mime, server.body = "audio/wav", AUDIO
        asyncio.run(work())
    else:
        server.mime = "audio/wav"
        asyncio.run(work())
        flow.runtime.run(timers=False)
        server.mime, server.body = "text/plain", b"What the publisher wrote."
    contexts[late] = left_out
    flow.run()
    assert len(flow.runtime.log.records("heard-transcripts")) == 1
    last = flow.runtime.log.records("episode-transcripts")[-1]
    if how == "withdrawn":
        assert last.value is None
    else:
        assert flow.runtime.log.wire.decode(last.topic, last.value)["format"] == "text"


def test_what_is_heard_before_the_other_stage_has_read_of_it_is_told(make: Make) -> None:
    flow = make()
    contexts = flow.runtime._contexts
    telling = contexts.pop("fetch_transcripts")
    flow.publish()
    flow.run()
    assert flow.told() == []
    heard = telling.agents["heard-transcripts"].handle
    asyncio.run(heard(flow.runtime.log.records("heard-transcripts")))
    contexts["fetch_transcripts"] = telling
    flow.run()
    assert set(flow.told()) == {("ok", "asr")}


def test_links_that_came_and_went_do_not_lose_what_was_heard(make: Make, server: Server) -> None:
    flow = make()
    flow.publish()
    flow.run()
    contexts = flow.runtime._contexts
    queue = contexts.pop("transcribe_audio")
    server.status = 404
    flow.publish(transcripts=[{"url": f"http://{server.address}/a.txt", "type": "text/plain"}])
    flow.run()
    flow.publish()
    flow.run()
    assert [status for status, _ in flow.told()] == ["none", "ok", "failed", "none"]
    server.status = 200
    contexts["transcribe_audio"] = queue
    flow.run()  # it reads of both at once
    assert flow.told()[-1] == ("ok", "asr")


def test_what_was_heard_between_two_times_of_the_same_links_is_nothing(
    make: Make, server: Server
) -> None:
    flow = make()
    listed = [{"url": f"http://{server.address}/a.txt", "type": "text/plain"}]
    server.mime, server.body = "text/plain", b"What the publisher wrote."
    flow.publish(transcripts=listed)
    flow.run()
    contexts = flow.runtime._contexts
    telling = contexts.pop("fetch_transcripts")
    server.mime, server.body = "audio/wav", AUDIO
    flow.publish()
    flow.run()
    assert len(flow.runtime.log.records("heard-transcripts")) == 1
    flow.publish(transcripts=listed)
    contexts["fetch_transcripts"] = telling
    flow.run()
    assert flow.told() == [("ok", "text")]


def test_what_was_heard_for_an_older_record_does_not_make_the_newest_one_old(
    make: Make, server: Server
) -> None:
    flow = make()
    flow.publish()
    flow.runtime.run(timers=False)
    flow.publish(transcripts=[{"url": f"http://{server.address}/a.vtt", "type": "text/vtt"}])
    contexts = flow.runtime._contexts
    queue = contexts.pop("transcribe_audio")
    flow.run()
    flow.publish()
    flow.run()
    asyncio.run(queue.timers[-1]())
    flow.run()
    assert [status for status, _ in flow.told()] == ["none", "refused", "none", "ok"]
    tell = contexts["fetch_transcripts"].agents["episode-metadata"].handle
    for message in flow.runtime.log.records("episode-metadata"):
        asyncio.run(tell([message]))  # they come again, one by one
    assert flow.told()[-1] == ("ok", "asr")


def test_an_edit_of_other_things_does_not_throw_away_what_is_being_heard(make: Make) -> None:
    flow = make()
    flow.publish()
    flow.runtime.run(timers=False)
    context = flow.runtime._contexts["transcribe_audio"]
    queue = context.agents["episode-metadata"].handle

    async def edited_meanwhile() -> None:
        working: asyncio.Task[Any] = asyncio.create_task(context.timers[-1]())
        await asyncio.to_thread(hearing.wait, 20)
        flow.publish(title="edited")
        await queue(flow.runtime.log.records("episode-metadata")[-1:])
        going_on.set()
        await working

    hearing, going_on = threading.Event(), threading.Event()
    flow.listener.hold(hearing, going_on)
    asyncio.run(edited_meanwhile())
    (message,) = flow.runtime.log.records("heard-transcripts")
    assert message.header("episode_offset") == b"1"
    flow.run()
    assert flow.told() == [QUEUED, ("ok", "asr")]
    assert len(flow.listener.heard) == 1


def test_without_the_extra_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def absent(name: str, *args: object, **kwargs: object) -> object:
        if name == "faster_whisper":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'podstream\[asr\]'"):
        WhisperTranscriber("base", 1).load()
