from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import ClientError
from pydantic import SecretStr
from yarl import URL

from streams.http.rate_limits import HostRateLimiter, HostUnavailableError, Limit, limits, users
from streams.runtime.clock import ManualClock
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

A, B = URL("http://a.example/x"), URL("http://b.example/y")
NOW = 1_790_000_000.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


async def ask(rate_limiter: HostRateLimiter, url: URL, status: int = 200, **values: object) -> None:
    async with rate_limiter.permit(url) as permit:
        permit.answered(status, **values)  # type: ignore[arg-type]


def limited(clock: ManualClock, rate: float, at_once: int = 4) -> HostRateLimiter:
    return HostRateLimiter(lambda url: Limit("web", rate, at_once), {"web": 1}, clock)


async def test_each_host_has_a_pace_of_its_own(clock: ManualClock) -> None:
    rate_limiter = limited(clock, 20)
    asked = (ask(rate_limiter, url) for url in (A, B) for _ in range(5))
    await clock.drive(asyncio.gather(*asked))
    # The first goes at once, the others 50 ms apart; both hosts side by side.
    assert clock.monotonic() == pytest.approx(0.2)


async def test_who_is_cancelled_while_it_waits_takes_no_slot_from_others(
    clock: ManualClock,
) -> None:
    rate_limiter = limited(clock, 1)
    await ask(rate_limiter, A)
    given_up = [asyncio.create_task(ask(rate_limiter, A)) for _ in range(10)]
    await clock.advance(0.5)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)
    await clock.drive(ask(rate_limiter, A))
    assert clock.monotonic() == 1.0


async def test_only_so_many_at_once(clock: ManualClock) -> None:
    rate_limiter, most, now = limited(clock, 1000, at_once=3), 0, 0

    async def slow() -> None:
        nonlocal most, now
        async with rate_limiter.permit(A) as permit:
            now += 1
            most = max(most, now)
            await clock.sleep(0.02)
            now -= 1
            permit.answered(200)

    await clock.drive(asyncio.gather(*(slow() for _ in range(12))))
    assert most == 3


@pytest.mark.parametrize(
    "workers",
    [
        [{"discover": 1.0, "download": 1.0}],
        [{"discover": 0.5, "download": 0.5}, {"discover": 0.5, "download": 0.5}],
        [{"discover": 1.0}, {"download": 0.5}, {"download": 0.5}],
        [{"discover": 0.75, "download": 1.0}, {"discover": 0.25}],
        [{"discover": 0.5}, {"discover": 0.5}, {"download": 1.0}],
    ],
)
def test_the_parts_of_all_workers_add_up_to_the_whole(workers: list[dict[str, float]]) -> None:
    total = 0.0
    for stages in workers:
        rate_limiter = HostRateLimiter(lambda url: None, {"index": 2, "web": 3}, ManualClock())
        for stage, share in stages.items():
            rate_limiter.join(stage, ("index", "web"), _constant(share))
        rate_limiter.join("other", ("web",), _constant(1.0))
        total += rate_limiter.part("index")
    assert total == pytest.approx(1.0)


def _constant(value: float) -> Callable[[], float]:
    return lambda: value


def test_while_partitions_move_the_pace_stays() -> None:
    shares = [0.5, 0.0, 0.0, 0.25]
    rate_limiter = HostRateLimiter(lambda url: None, {"index": 1}, ManualClock())
    rate_limiter.join("download", ("index",), lambda: shares.pop(0))
    assert [rate_limiter.part("index") for _ in range(4)] == [0.5, 0.5, 0.5, 0.25]


async def test_a_change_of_the_part_changes_the_pace(clock: ManualClock) -> None:
    share = [1.0]
    rate_limiter = limited(clock, 50)
    rate_limiter.join("fetch", ("web",), lambda: share[0])
    await ask(rate_limiter, A)
    share[0] = 0.25
    for _ in range(4):
        await clock.drive(ask(rate_limiter, A))
    assert clock.monotonic() == pytest.approx(3 * 0.08)


async def test_a_long_wait_that_is_asked_for_fails_at_once_and_a_short_one_is_sat_out(
    clock: ManualClock,
) -> None:
    rate_limiter = HostRateLimiter.unlimited(clock)
    await ask(rate_limiter, A, 429, retry_after="3600")
    with pytest.raises(
        HostUnavailableError, match=r"a\.example asked to be left alone until"
    ) as no:
        await ask(rate_limiter, A)
    assert no.value.until == NOW + 3600
    await ask(rate_limiter, B, 503, retry_after="1")
    await clock.drive(ask(rate_limiter, B))
    assert clock.monotonic() == 1.0


async def test_what_waits_for_its_turn_hears_of_an_open_circuit(clock: ManualClock) -> None:
    rate_limiter, asked = limited(clock, 100, at_once=1), 0

    async def failing() -> None:
        nonlocal asked
        async with rate_limiter.permit(A):
            asked += 1
            raise ClientError("reset")

    waiting = asyncio.gather(*(failing() for _ in range(20)), return_exceptions=True)
    outcomes = await clock.drive(waiting)
    assert asked == 5
    assert [type(o) for o in outcomes] == [ClientError] * 5 + [HostUnavailableError] * 15
    assert "the last: ClientError: reset" in str(outcomes[-1])


async def test_after_its_rest_one_probe_decides(clock: ManualClock) -> None:
    rate_limiter = HostRateLimiter(lambda url: None, {}, clock)
    for _ in range(5):
        await ask(rate_limiter, A, 500)
    clock.move(100)
    asking, release = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        async with rate_limiter.permit(A) as permit:
            asking.set()
            await release.wait()
            permit.answered(200)

    probing = asyncio.create_task(probe())
    await asking.wait()
    with pytest.raises(HostUnavailableError, match="a probe of"):
        await ask(rate_limiter, A)
    release.set()
    await probing
    await ask(rate_limiter, A)


async def test_the_first_rest_is_a_setting(clock: ManualClock) -> None:
    settings = Settings(fetch_rest_s=300)
    rate_limiter = HostRateLimiter.of(settings, clock)
    for _ in range(5):
        await clock.drive(ask(rate_limiter, A, 500))
    clock.move(0.79 * 300)
    with pytest.raises(HostUnavailableError):
        await ask(rate_limiter, A)
    clock.move(0.42 * 300)
    await ask(rate_limiter, A)


async def test_a_probe_that_is_given_up_leaves_room_for_the_next(clock: ManualClock) -> None:
    rate_limiter = HostRateLimiter(lambda url: None, {}, clock)
    for _ in range(5):
        await ask(rate_limiter, A, 500)
    clock.move(100)

    asking = asyncio.Event()

    async def forever() -> None:
        async with rate_limiter.permit(A):
            asking.set()
            await clock.sleep(100)

    probing = asyncio.create_task(forever())
    await asking.wait()
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    await ask(rate_limiter, A)


async def test_a_body_that_is_cut_counts_as_failure_though_the_head_was_fine() -> None:
    rate_limiter = HostRateLimiter.unlimited()

    async def answered_then(url: URL, error: Exception) -> None:
        async with rate_limiter.permit(url) as permit:
            permit.answered(200)
            raise error

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await answered_then(A, TimeoutError())
    with pytest.raises(HostUnavailableError, match="circuit open"):
        await ask(rate_limiter, A)
    # what our own rules refuse is not the host's fault
    for _ in range(10):
        with pytest.raises(ValueError, match="too large"):
            await answered_then(B, ValueError("too large"))


async def test_the_report_tells_of_hosts_in_use_and_forgets_them(clock: ManualClock) -> None:
    rate_limiter = HostRateLimiter(lambda url: Limit("web", 9000, 4), {"web": 3}, clock)
    rate_limiter.join("fetch", ("web",), lambda: 1.0)
    await ask(rate_limiter, A)
    await ask(rate_limiter, B, 429)
    told = {record["host"]: record for record in rate_limiter.report("w")}
    assert told["a.example"]["rate"] == 3000
    assert (told["b.example"]["rejected"], told["b.example"]["failures"]) == (1, 1)
    clock.move(5)
    assert list(rate_limiter.report("w")) == []
    await ask(rate_limiter, A)
    assert [r["host"] for r in rate_limiter.report("w")] == ["a.example"]
    clock.move(30)
    assert {r["host"] for r in rate_limiter.report("w")} == {"a.example", "b.example"}
    clock.move(1000)
    assert [r["host"] for r in rate_limiter.report("w")] == ["b.example"]  # still in trouble


def test_the_limits_of_the_settings() -> None:
    settings = Settings(
        fetch_allow_hosts="mine.example:8080",
        podcastindex_key=SecretStr("k"),
        fetch_host_rate=3,
    )
    limit_of = limits(settings)
    index = limit_of(URL("https://api.podcastindex.org/api/1.0/podcasts/trending"))
    assert index is not None
    assert (index.kind, index.rate) == ("index", 0.9)
    other = limit_of(URL("https://example.com/feed"))
    assert other is not None
    assert (other.kind, other.rate, other.at_once) == ("web", 3, 4)
    for free in ("http://127.0.0.1:9/", "http://localhost/", "http://[::1]:8/"):
        assert limit_of(URL(free)) is None
    assert limit_of(URL("http://mine.example:8080/")) is None
    assert limit_of(URL("http://mine.example/")) is not None
    assert users(settings)["index"] == 2


def test_all_stages_of_a_process_share_one_and_one_of_them_reports() -> None:
    settings = Settings()
    flow = MemoryRuntime(build_graph(2), settings)
    rate_limiter, others = HostRateLimiter.of(settings, flow.clock), Settings()
    assert rate_limiter is HostRateLimiter.of(settings, ManualClock())
    assert rate_limiter is not HostRateLimiter.of(others, flow.clock)
    timers = [len(flow.start(s).timers) for s in ("download_episodes", "fetch_transcripts")]
    assert timers == [2, 1]  # the report of both in the first, and the retries of each
    asyncio.run(ask(rate_limiter, A, 503))
    flow.run()
    (record,) = flow.log.decoded("source-hosts")
    assert (record["host"], record["failures"]) == ("a.example", 1)
    (message,) = flow.log.records("source-hosts")
    assert message.key == f"{record['worker']}|a.example".encode()
