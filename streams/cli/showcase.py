"""What a person sees of a running instance: the demo's first recommendations, a status line."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from textwrap import shorten
from typing import Any

from pymongo import MongoClient
from pymongo.cursor import Cursor
from pymongo.database import Database
from pymongo.errors import PyMongoError
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from streams.cli.hosts import HostStatus
from streams.cli.local.supervise import Supervisor
from streams.cli.progress import step
from streams.cli.status import Status, measure
from streams.monitoring.instruments import memory_bytes
from streams.operations.disk import shortage
from topology.settings import Settings

LISTENERS_SHOWN = 3
LISTS_LOOKED_AT = 300
ITEMS_SHOWN = 5
ERROR_SHOWN = 120
_WATCH_EVERY_S = 30.0


def newest_lists(database: Database[dict[str, Any]]) -> Cursor[dict[str, Any]]:
    """The lists that were made last: a personal one is soon among them."""
    lists = database["final_recommendations"]
    return lists.find().sort("updated_at", -1).limit(LISTS_LOOKED_AT)


def is_personal(document: dict[str, Any]) -> bool:
    """Whether a list owes something to its listener: an item scored by ALS or by content."""
    return any(
        item["parts"].get("als", 0) > 0 or item["parts"].get("content", 0) > 0
        for item in document.get("items", ())
    )


def show_demo(settings: Settings, console: Console, timeout_s: float) -> bool:
    """Wait for personal recommendations and print them; False if none came in ``timeout_s``."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=5000
    )
    supervisor = Supervisor(settings.podstream_home)
    with client, step(console, "Waiting for personal recommendations") as current:
        database = client[settings.mongodb_database]
        while True:
            collection = database["final_recommendations"]
            found = [document for document in newest_lists(database) if is_personal(document)]
            if len(found) >= LISTENERS_SHOWN or current.elapsed_s > timeout_s:
                break
            lists = collection.estimated_document_count()
            episodes = database["episodes"].estimated_document_count()
            news = [f"{episodes} episodes, {lists} lists, {len(found)} of them personal"]
            current.tell(", ".join([*news, *not_running(supervisor)]))
            time.sleep(1)
    # lists that ALS had a hand in first: they say most about the listener
    found.sort(key=lambda d: -sum(item["parts"].get("als", 0) > 0 for item in d["items"]))
    for document in found[:LISTENERS_SHOWN]:
        console.print(recommendation_table(document))
    if len(found) < LISTENERS_SHOWN:
        console.print(
            f"[yellow]Only {len(found)} personal lists after {timeout_s:.0f} s: "
            "`podstream status` shows which stage lags.[/yellow]"
        )
    return len(found) >= LISTENERS_SHOWN


def recommendation_table(document: dict[str, Any]) -> Table:
    """The first items of one listener's list."""
    table = Table(title=f"Recommended to {document['_id']}", title_justify="left", expand=False)
    for column in ("", "episode", "show", "score", "why"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for number, item in enumerate(document["items"][:ITEMS_SHOWN], 1):
        # titles come from feeds: shown as they are, not as markup
        cells = (str(item[key]).replace("[", "\\[") for key in ("title", "show"))
        table.add_row(
            str(number), *cells, f"{item['score']:.3f}", str(item["reason"]).replace("[", "\\[")
        )
    return table


def not_running(supervisor: Supervisor) -> list[str]:
    """The processes that wait to be started again or that nobody asked for, with their states."""
    return [f"{p.name} {p.state.lower()}" for p in supervisor.processes() if p.state != "RUNNING"]


def watch(settings: Settings, console: Console) -> None:
    """A status line now and then, until interrupted."""
    supervisor = Supervisor(settings.podstream_home)
    while True:
        time.sleep(_WATCH_EVERY_S)
        processes = supervisor.processes()
        memory = sum(memory_bytes(process.pid) for process in processes if process.pid)
        try:
            measured = measure(settings, delta=False)
        except (PyMongoError, OSError) as error:
            console.print(f"status is not to be had: {error}", markup=False)
            continue
        rows = {store.name: store.rows for store in measured.stores}
        lag = sum(stage.lag or 0 for stage in measured.stages)
        line = (
            f"{time.strftime('%H:%M:%S')}  {rows.get('episodes', 0)} episodes, "
            f"{rows.get('final_recommendations', 0)} lists, lag {lag}, "
            f"{memory / 2**30:.1f} GiB"
        )
        told = [line, *not_running(supervisor), *filter(None, [shortage(settings)])]
        console.print("  ".join(told), markup=False, highlight=False)


def status_tables(status: Status) -> Iterator[Table]:
    """What was measured, for people."""
    processes = _table("Processes", "process", "pid", "state", "MiB")
    for process in status.processes:
        megabytes = f"{process.rss_bytes / 2**20:,.0f}"
        processes.add_row(process.name, str(process.pid or ""), process.state, megabytes)
    total = sum(process.rss_bytes for process in status.processes)
    processes.add_row("together", "", "", f"{total / 2**20:,.0f}")
    yield processes
    stages = _table("Stages", "stage", "lag")
    for stage in status.stages:
        stages.add_row(stage.name, "unknown" if stage.lag is None else f"{stage.lag:,}")
    yield stages
    stores = _table("Stores", "store", "kind", "rows")
    for store in status.stores:
        stores.add_row(store.name, store.kind, f"{store.rows:,}")
    yield stores
    if status.disk:
        yield disk_table(status.disk)
    dead = [letters for letters in status.dead_letters if letters.count]
    letters_table = _table("Dead letters", "topic", "count")
    for letters in dead:
        letters_table.add_row(letters.topic, f"{letters.count:,}")
    if not dead:
        letters_table.add_row("none", "0")
    yield letters_table
    if status.hosts:
        yield hosts_table(status.hosts)


def disk_table(disk: Mapping[str, Any]) -> Table:
    """What each store takes, and its growth; the last rows are the sum and what is left."""
    table = _table("Disk", "what", "MB", "MB an hour")

    def add(name: str, size: int, growth: int | None) -> None:
        table.add_row(name, f"{size / 1e6:,.1f}", "" if growth is None else f"{growth / 1e6:+,.1f}")

    for store in disk["stores"]:
        add(store["store"], store["bytes"], store["growth_per_hour"])
    add("together", sum(store["bytes"] for store in disk["stores"]), disk["growth_per_hour"])
    left = "" if disk["days_left"] is None else f", {disk['days_left']:,.0f} days until the reserve"
    add(f"free{left}", disk["free"], None)
    return table


def hosts_table(hosts: Iterable[HostStatus]) -> Table:
    """How the hosts do that episodes come from, by all workers together.

    Below a host stands what each worker says that has trouble with it. No name is ever cut.
    """
    by_host: dict[str, list[HostStatus]] = {}
    for host in hosts:
        by_host.setdefault(host.host, []).append(host)
    table = _table("Hosts", "host", "requests", "failures", "429", "per s")
    for name, views in by_host.items():
        rates = [view.rate for view in views if view.rate is not None]
        said = [Text(line, overflow="fold") for line in filter(None, map(_trouble, views))]
        table.add_row(
            Group(Text(name, overflow="fold"), *(Padding(line, (0, 0, 0, 2)) for line in said)),
            f"{sum(view.requests for view in views):,}",
            f"{sum(view.failures for view in views):,}",
            f"{sum(view.rejected for view in views):,}",
            f"{sum(rates):.2g}" if rates else "",
        )
    return table


def _trouble(view: HostStatus) -> str | None:
    """What one worker has to say of a host; None if all is well."""
    facts = []
    if view.circuit != "closed":
        facts.append(f"circuit {view.circuit}")
    if view.next_at:
        facts.append("again at " + view.next_at.replace("T", " ").replace("+00:00", "Z"))
    if view.last_error:
        # An address in it is mostly one of this host, whose name is above.
        facts.append(
            shorten(view.last_error.replace(view.host, "…"), ERROR_SHOWN, placeholder=" …")
        )
    return f"{view.worker}: {', '.join(facts)}" if facts else None


def late_line(status: Status) -> str | None:
    """A sentence about events that came too late, if there are any."""
    if not status.late_events:
        return None
    return (
        f"{status.late_events:,} late events are in no live table (topic late-events has them); "
        "history has them all the same."
    )


def failure_lines(status: Status) -> list[str]:
    """A sentence about each stage that fails while the others go on."""
    return [
        f"{one.stage} has failed {one.attempts} times and is tried again at {one.retry_at}: "
        f"{one.error}"
        for one in status.failures
    ]


def model_lines(status: Status) -> list[str]:
    """Sentences about the generation that lists are made with, and those that are refused."""
    return [
        f"generation {one.generation} is {one.state}{one.because and f': {one.because}'}"
        for one in reversed(status.models)
    ]


def noted_line(status: Status) -> str | None:
    """A sentence about what was not read as it is, if there is anything."""
    counts = ((status.noted.episodes, "episodes"), (status.noted.transcripts, "transcripts"))
    told = [f"{count:,} {what}" for count, what in counts if count]
    if not told:
        return None
    return (
        f"{' and '.join(told)} have notes: something in them was dropped, guessed or mended "
        "(dashboard, Episodes; `podstream inspect` shows it for any input)."
    )


_NUMBERS = {
    "MiB",
    "lag",
    "rows",
    "count",
    "pid",
    "requests",
    "failures",
    "429",
    "per s",
    "MB",
    "MB an hour",
}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        numeric = column in _NUMBERS
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    return table
