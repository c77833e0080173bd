from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiohttp import ClientError
from pydantic import SecretStr
from yarl import URL

from streams.http.rate_limits import HostRateLimiter, HostUnavailableError, Limit, limits, users
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

A, B = URL("http://a.example/x"), URL("http://b.example/y")


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


async def ask(rate_limiter: HostRateLimiter, url: URL, status: int = 200, **values: object) -> None:
    async with rate_limiter.permit(url) as permit:
        permit.answered(status, **values)  # type: ignore[arg-type]


def limited(rate: float, at_once: int = 4) -> HostRateLimiter:
    return HostRateLimiter(lambda url: Limit("web", rate, at_once), {"web": 1})


async def test_each_host_has_a_pace_of_its_own() -> None:
    rate_limiter = limited(20)
    started = time.monotonic()
    await asyncio.gather(*(ask(rate_limiter, url) for url in (A, B) for _ in range(5)))
    took = time.monotonic() - started
    # The first goes at once, the others 50 ms apart; both hosts side by side.
    assert 0.19 < took < 0.38


async def test_only_so_many_at_once() -> None:
    rate_limiter, most, now = limited(1000, at_once=3), 0, 0

    async def slow() -> None:
        nonlocal most, now
        async with rate_limiter.permit(A) as permit:
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.02)
            now -= 1
            permit.answered(200)

    await asyncio.gather(*(slow() for _ in range(12)))
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
        rate_limiter = HostRateLimiter(lambda url: None, {"index": 2, "web": 3})
        for stage, share in stages.items():
            rate_limiter.join(stage, ("index", "web"), _constant(share))
        rate_limiter.join("other", ("web",), _constant(1.0))
        total += rate_limiter.part("index")
    assert total == pytest.approx(1.0)


def _constant(value: float) -> Callable[[], float]:
    return lambda: value


def test_while_partitions_move_the_pace_stays() -> None:
    shares = [0.5, 0.0, 0.0, 0.25]
    rate_limiter = HostRateLimiter(lambda url: None, {"index": 1})
    rate_limiter.join("download", ("index",), lambda: shares.pop(0))
    assert [rate_limiter.part("index") for _ in range(4)] == [0.5, 0.5, 0.5, 0.25]


async def test_a_change_of_the_part_changes_the_pace() -> None:
    share = [1.0]
    rate_limiter = HostRateLimiter(lambda url: Limit("web", 50, 4), {"web": 1})
    rate_limiter.join("fetch", ("web",), lambda: share[0])
    await ask(rate_limiter, A)
    share[0] = 0.25
    started = time.monotonic()
    for _ in range(4):
        await ask(rate_limiter, A)
    assert time.monotonic() - started > 3 * 0.08 * 0.95


async def test_a_long_wait_that_is_asked_for_fails_at_once_and_a_short_one_is_sat_out() -> None:
    rate_limiter = HostRateLimiter.unlimited()
    await ask(rate_limiter, A, 429, retry_after="3600")
    with pytest.raises(
        HostUnavailableError, match=r"a\.example asked to be left alone until"
    ) as no:
        await ask(rate_limiter, A)
    assert 3590 < no.value.until - time.time() < 3610
    await ask(rate_limiter, B, 503, retry_after="1")
    started = time.monotonic()
    await ask(rate_limiter, B)
    assert time.monotonic() - started > 0.9


async def test_what_waits_for_its_turn_hears_of_an_open_circuit() -> None:
    rate_limiter, asked = limited(100, at_once=1), 0

    async def failing() -> None:
        nonlocal asked
        async with rate_limiter.permit(A):
            asked += 1
            raise ClientError("reset")

    outcomes = await asyncio.gather(*(failing() for _ in range(20)), return_exceptions=True)
    assert asked == 5
    assert [type(o) for o in outcomes] == [ClientError] * 5 + [HostUnavailableError] * 15
    assert "the last: ClientError: reset" in str(outcomes[-1])


async def test_after_its_rest_one_probe_decides() -> None:
    clock = Clock()
    rate_limiter = HostRateLimiter(lambda url: None, {}, clock)
    for _ in range(5):
        await ask(rate_limiter, A, 500)
    clock.now += 100
    release = asyncio.Event()

    async def probe() -> None:
        async with rate_limiter.permit(A) as permit:
            await release.wait()
            permit.answered(200)

    probing = asyncio.create_task(probe())
    await asyncio.sleep(0)
    with pytest.raises(HostUnavailableError, match="a probe of"):
        await ask(rate_limiter, A)
    release.set()
    await probing
    await ask(rate_limiter, A)


async def test_the_first_rest_is_a_setting() -> None:
    rate_limiter = HostRateLimiter.of(Settings(fetch_rest_s=0.05))
    for _ in range(5):
        await ask(rate_limiter, A, 500)
    with pytest.raises(HostUnavailableError):
        await ask(rate_limiter, A)
    await asyncio.sleep(0.07)
    await ask(rate_limiter, A)


async def test_a_probe_that_is_given_up_leaves_room_for_the_next() -> None:
    clock = Clock()
    rate_limiter = HostRateLimiter(lambda url: None, {}, clock)
    for _ in range(5):
        await ask(rate_limiter, A, 500)
    clock.now += 100

    async def forever() -> None:
        async with rate_limiter.permit(A):
            await asyncio.sleep(100)

    probing = asyncio.create_task(forever())
    await asyncio.sleep(0)
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


async def test_the_report_tells_of_hosts_in_use_and_forgets_them() -> None:
    clock = Clock()
    rate_limiter = HostRateLimiter(lambda url: Limit("web", 9000, 4), {"web": 3}, clock)
    rate_limiter.join("fetch", ("web",), lambda: 1.0)
    await ask(rate_limiter, A)
    await ask(rate_limiter, B, 429)
    told = {record["host"]: record for record in rate_limiter.report("w")}
    assert told["a.example"]["rate"] == 3000
    assert (told["b.example"]["rejected"], told["b.example"]["failures"]) == (1, 1)
    clock.now += 5
    assert list(rate_limiter.report("w")) == []
    await ask(rate_limiter, A)
    assert [r["host"] for r in rate_limiter.report("w")] == ["a.example"]
    clock.now += 30
    assert {r["host"] for r in rate_limiter.report("w")} == {"a.example", "b.example"}
    clock.now += 1000
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
    assert HostRateLimiter.of(settings) is HostRateLimiter.of(settings)
    assert HostRateLimiter.of(settings) is not HostRateLimiter.of(Settings())
    flow = MemoryRuntime(build_graph(2), settings)
    timers = [len(flow.start(s).timers) for s in ("download_episodes", "fetch_transcripts")]
    assert timers == [2, 1]  # the report of both in the first, and the retries of each
    asyncio.run(ask(HostRateLimiter.of(settings), A, 503))
    flow.run()
    (record,) = flow.log.decoded("source-hosts")
    assert (record["host"], record["failures"]) == ("a.example", 1)
    (message,) = flow.log.records("source-hosts")
    assert message.key == f"{record['worker']}|a.example".encode()
