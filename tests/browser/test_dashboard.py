"""The dashboard in a real browser: every page shows its numbers, and they move by themselves."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from deltalake import write_deltalake
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect

from streams.cli.local.ports import free_ports
from tests.browser.seed import REFUSED_BECAUSE
from tests.browser.seed_analysis import RICH, UNANALYSED, UNSPACED
from tests.hours import put_counts
from topology.settings import LOOPBACK

if TYPE_CHECKING:
    from tests.browser.conftest import Dashboard

pytestmark = [pytest.mark.browser, pytest.mark.mongo]

PAGES = {
    "Live": "",
    "Recommendations": "recommendations",
    "Models": "models",
    "Episodes": "episodes",
    "History": "history",
    "Lineage": "lineage",
}
SLOW_MS = 60_000
expect.set_options(timeout=SLOW_MS)


@pytest.fixture
def page(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of 1440 by 900; the test fails if it asked any host but ours for anything."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(SLOW_MS)
    asked: list[str] = []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("websocket", lambda socket: asked.append(socket.url))
    yield opened
    keep_picture(opened, request.node.name)
    context.close()
    local = {LOOPBACK, "", None}
    assert {urlsplit(url).hostname for url in asked} <= local, sorted(set(asked))


def keep_picture(page: Page, name: str) -> None:
    """Leave a picture of the page in $PODSTREAM_PICTURES, where one wants to look."""
    folder = os.environ.get("PODSTREAM_PICTURES")
    if folder:
        name = re.sub(r"\W+", "_", name).strip("_")
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_page(page: Page, url: str, title: str) -> None:
    page.goto(f"{url}/{PAGES[title]}")
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()


def settled(page: Page) -> None:
    """Nothing on the page is an error, and nothing is still to come."""
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0)
    expect(page.locator('[data-testid="stException"]')).to_have_count(0)
    expect(page.locator('[data-testid="stAlertContentError"]')).to_have_count(0)


def metric(page: Page, label: str) -> Locator:
    """The value of the number with this label."""
    box = page.locator('[data-testid="stMetric"]').filter(
        has=page.locator('[data-testid="stMetricLabel"]').get_by_text(label, exact=True)
    )
    return box.locator('[data-testid="stMetricValue"]').first


def test_live_numbers_are_those_of_the_store_and_move(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Live")
    page.get_by_text("24 h", exact=True).click()
    expect(page.get_by_text("The last 24 h")).to_be_visible()
    stored = list(dashboard.stores.database["engagement_windows"].find())
    before = sum(document["plays"] for document in stored)
    expect(metric(page, "Plays")).to_have_text(f"{before:,}")
    rolling = next(dashboard.stores.database["rolling_windows"].find({"_id": "episode|1440"}))
    expect(metric(page, "Active episodes")).to_have_text(f"{rolling['active']:,}")
    expect(page.locator("canvas.marks, svg.marks").first).to_be_visible()

    loads: list[str] = []
    page.on("load", lambda _: loads.append("load"))
    added = put_more(dashboard.stores, datetime.now(UTC).replace(second=0, microsecond=0))
    expect(metric(page, "Plays")).to_have_text(f"{before + added:,}")
    assert not loads, "the numbers are to move without a reload"
    page.get_by_text("15 min", exact=True).click()
    expect(page.get_by_text("The last 15 min")).to_be_visible()
    page.wait_for_timeout(1500)
    settled(page)


def test_scopes_of_every_kind_and_window_are_those_of_the_store(
    page: Page, dashboard: Dashboard
) -> None:
    open_page(page, dashboard.url, "Live")
    rolling = dashboard.stores.database["rolling_windows"]
    for kind, label, window, minutes in (
        ("episode", "Episodes", "1 min", 1),
        ("show", "Shows", "60 min", 60),
        ("category", "Categories", "24 h", 1440),
    ):
        page.get_by_text(window, exact=True).click()
        page.locator('[data-testid="stMain"]').get_by_text(label, exact=True).click()
        expect(page.get_by_text(f"Distinct listeners of the {window} up to")).to_be_visible()
        first = next(rolling.find({"_id": f"{kind}|{minutes}"}))["scopes"][0]
        expect(cell(page, first["title"])).to_be_attached()
        expect(cell(page, str(first["impressions"]))).to_be_attached()
        settled(page)
        page.wait_for_timeout(1500)
        keep_picture(page, f"live_{kind}_{minutes}")


def cell(page: Page, text: str) -> Locator:
    """A cell of a table, which is drawn on a canvas and told to screen readers unformatted."""
    return (
        page.locator('[data-testid="stDataFrame"] [role="gridcell"]')
        .get_by_text(text, exact=True)
        .first
    )


def test_trending_says_why_by_category_and_language(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Live")
    reason = "40 new listeners in the last hour, none in the day before"
    expect(cell(page, reason)).to_be_attached()
    first = dashboard.stores.episodes[0]["title"]
    expect(cell(page, first)).to_be_attached()
    choose(page, "Category", "Music")
    choose(page, "Language", "de")
    trending = dashboard.stores.database["trending_episodes"]
    places = next(trending.find({"_id": "category:Music|language:de"}))["episodes"]
    titles = {episode["_id"]: episode["title"] for episode in dashboard.stores.episodes}
    expect(cell(page, titles[places[1]["episode_id"]])).to_be_attached()
    expect(cell(page, "38 new listeners in the last hour, 8.7 times its usual")).to_be_attached()
    page.mouse.wheel(0, 5000)
    page.wait_for_timeout(1500)
    keep_picture(page, "live_below")
    settled(page)


def choose(page: Page, label: str, option: str) -> None:
    """Open the list and choose; a page being drawn may swallow a click."""
    wanted = page.get_by_role("option", name=option, exact=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not wanted.is_visible():
        page.get_by_label(label, exact=True).first.click()
        with suppress(TimeoutError):
            wanted.wait_for(timeout=3000)
    wanted.click()


def test_anomalies_and_late_events_are_told(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Live")
    expect(cell(page, "▲ rise")).to_be_attached()
    expect(cell(page, "▼ fall")).to_be_attached()
    expect(page.get_by_text("46 late events of 116,000")).to_be_visible()
    expect(page.get_by_text("more than 15 minutes behind")).to_be_visible()
    settled(page)


def put_more(stores: Any, minute: datetime) -> int:
    """Write windows of the current minute, as serve_mongo does; give the plays in them."""
    counts = {"impressions": 20, "clicks": 5, "plays": 3, "completes": 1, "heard_ms": 1_500_000}
    counts |= {"streams": 2, "listeners": 3, "engaged": 1, "new_listeners": 3}
    documents = [
        {
            "_id": f"{episode['_id']}|{minute:%Y-%m-%dT%H:%MZ}",
            "episode_id": episode["_id"],
            "bucket": minute,
            **counts,
            "parts": {"0": {"offset": 1, **counts}},
        }
        for episode in stores.episodes[:20]
    ]
    stores.database["engagement_windows"].insert_many(documents)
    total = {name: count * len(documents) for name, count in counts.items()}
    put_counts(stores.database, minute, total)
    return total["plays"]


def test_a_listeners_list_moves_by_itself(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Recommendations")
    lists = dashboard.stores.database["final_recommendations"]
    newest = next(lists.find({"_id": "listener-000"}))
    expect(metric(page, "Caused by")).to_have_text(newest["caused_by"])
    expect(metric(page, "Items")).to_have_text("50")
    expect(page.get_by_text("What the scores are made of")).to_be_visible()
    lists.replace_one({"_id": "listener-000"}, {**newest, "caused_by": "event-new"})
    expect(metric(page, "Caused by")).to_have_text("event-new")
    settled(page)


def test_a_listener_can_be_typed(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Recommendations")
    field = page.get_by_role("combobox").first
    field.click()
    field.fill("nobody-of-this-name")
    field.press("Enter")
    expect(page.get_by_text("This listener has no list yet.")).to_be_visible()
    settled(page)


def test_models_show_generations_and_the_blend(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Models")
    stored = dashboard.stores.database["model_metrics"]
    for label, name in (("nDCG@10", "ndcg_at_10"), ("Coverage", "coverage")):
        found = stored.find({"model": "als", "metric": name}).sort("at", -1).limit(1)
        expect(metric(page, label)).to_have_text(f"{next(found)['value']:.3f}")
    expect(metric(page, "Drifting partitions")).to_have_text("0 of 4")
    expect(page.get_by_text(REFUSED_BECAUSE)).to_be_visible()
    expect(page.locator("canvas.marks, svg.marks")).to_have_count(6)
    settled(page)


def choose_episode(page: Page, episode_id: str) -> None:
    """Search for an episode by its id, and choose it once it alone is in the table."""
    page.get_by_label("Search title, show or id").fill(episode_id)
    page.keyboard.press("Enter")
    table = page.locator('[data-testid="stDataFrame"]').first
    rows = table.locator('[role="grid"]')
    expect(rows).to_have_attribute("aria-rowcount", "2")  # one is the head
    expect(rows.get_by_text(episode_id, exact=True)).to_be_attached()
    choose_row(table, 0)


def choose_row(table: Locator, row: int) -> None:
    """Click the box before a row of a table: the head is 35 pixels high, a row 33."""
    table.scroll_into_view_if_needed()
    box = table.locator("canvas").first.bounding_box()
    assert box is not None
    table.page.mouse.click(box["x"] + 12, box["y"] + 50 + 33 * row)


def test_episodes_are_found_and_feed_text_stays_text(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Episodes")
    expect(metric(page, "Episodes")).to_have_text(f"{len(dashboard.stores.episodes)}")
    settled(page)
    keep_picture(page, "episodes_all")
    choose_episode(page, "demo:1006")
    said = page.locator('[data-testid="stText"]').get_by_text("<script>document.title").first
    expect(said).to_be_visible()
    assert page.title() != "owned"
    settled(page)


def test_an_episode_shows_its_days_and_where_listeners_leave(
    page: Page, dashboard: Dashboard
) -> None:
    open_page(page, dashboard.url, "Episodes")
    choose_episode(page, "demo:1004")
    days = list(dashboard.stores.database["episode_days"].find({"episode_id": "demo:1004"}))
    for label, name in (("Downloads", "downloads"), ("Streams", "streams")):
        expect(metric(page, label)).to_have_text(f"{sum(d[name] for d in days):,}")
    expect(page.get_by_text("Largest drop-offs: minute 1 (")).to_be_visible()
    expect(page.get_by_text("minute 9 (")).to_be_visible()
    expect(page.locator("canvas.marks, svg.marks")).to_have_count(2)
    page.wait_for_timeout(1000)
    page.get_by_text("How far it is heard").scroll_into_view_if_needed()
    settled(page)


def test_what_was_worked_out_of_a_transcript_is_shown(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Episodes")
    choose_episode(page, f"demo:{1000 + RICH}")
    for label in ("Words a minute", "Speech", "Reading ease"):
        expect(metric(page, label)).not_to_have_text("n/a")
    expect(page.get_by_text("Topic: tidal minds, tide tables, glass frogs, 1")).to_be_visible()
    expect(page.locator("code").get_by_text("tide tables", exact=True)).to_be_visible()
    expect(page.get_by_text("Perhaps advertisements")).to_be_visible()
    expect(cell(page, "Saltwell Lamps")).to_be_attached()
    expect(cell(page, "0.711")).to_be_attached()
    page.wait_for_timeout(1000)
    settled(page)
    page.get_by_text("Who speaks").scroll_into_view_if_needed()
    keep_picture(page, "episode_analysed")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1000)
    page.get_by_text("Who speaks").scroll_into_view_if_needed()
    keep_picture(page, "episode_analysed_on_a_phone")


def test_a_near_duplicate_is_opened_and_all_of_it_stays_text(
    page: Page, dashboard: Dashboard
) -> None:
    open_page(page, dashboard.url, "Episodes")
    choose_episode(page, f"demo:{1000 + RICH}")
    expect(page.get_by_text("Another one came first.")).to_be_visible()
    similar = page.locator('[data-testid="stDataFrame"]').filter(has_text="Came first")
    expect(similar).to_be_visible()
    expect(page.get_by_label("Transcript", exact=True)).to_be_visible()
    page.wait_for_timeout(1500)  # the charts above it grow as they are drawn
    choose_row(similar, 0)
    expect(page.get_by_label("Search title, show or id")).to_have_value("demo:1006")
    expect(page.get_by_text("Language of the transcript: <script>")).to_be_visible()
    expect(page.locator("code").get_by_text("<b>bold</b>")).to_be_visible()
    expect(page.locator("code").get_by_text(":red[loud]")).to_be_visible()
    main = page.locator('[data-testid="stMain"]')
    expect(main.locator("a[href*='example.org'], b")).to_have_count(0)
    assert page.title() != "owned"
    page.wait_for_timeout(1000)
    settled(page)


def test_episodes_without_an_analysis_or_without_numbers_say_so(
    page: Page, dashboard: Dashboard
) -> None:
    open_page(page, dashboard.url, "Episodes")
    choose_episode(page, f"demo:{1000 + UNANALYSED}")
    expect(page.get_by_text("The transcript is not analysed yet.")).to_be_visible()
    choose_episode(page, f"demo:{1000 + UNSPACED}")
    expect(page.get_by_text("Language of the transcript: ja")).to_be_visible()
    for label in ("Words a minute", "Speech", "Reading ease"):
        expect(metric(page, label)).to_have_text("n/a")
    expect(page.get_by_text("The transcript names no speakers.")).to_be_visible()
    settled(page)


def test_the_chosen_episode_stays_where_the_list_changes(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Episodes")
    expect(page.get_by_text("160 shown")).to_be_visible()
    settled(page)
    choose_row(page.locator('[data-testid="stDataFrame"]').first, RICH)
    title = page.locator('[data-testid="stText"]').first
    expect(title).to_have_text("Glass frogs, explained  ·  Tidal Minds")
    topic = page.get_by_role("combobox", name="Topic")
    topic.click()
    page.get_by_role("option", name="tidal minds, tide tables, glass frogs (14)").click()
    expect(page.get_by_text("14 shown")).to_be_visible()
    one_more = pl.DataFrame([{"episode_id": "demo:1001", "topic_id": "Science", "score": 0.4}])
    table = str(dashboard.stores.delta_root / "episode_topics")
    write_deltalake(table, one_more.to_arrow(), mode="append")
    expect(page.get_by_text("15 shown")).to_be_visible()
    expect(topic).to_have_value("tidal minds, tide tables, glass frogs (15)")
    expect(title).to_have_text("Glass frogs, explained  ·  Tidal Minds")
    topic.click()
    page.get_by_role("option", name="<script>").click()
    expect(page.get_by_text("1 shown")).to_be_visible()
    expect(title).to_have_count(0)
    settled(page)


def test_history_counts_what_delta_holds(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "History")
    expect(page.get_by_text("Plays per day")).to_be_visible()
    expect(page.get_by_text("The last seven days")).to_be_visible()
    expect(page.get_by_text("Top listeners and episodes")).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d+ events, the newest"))).to_be_visible()
    settled(page)


def test_lineage_draws_every_stage(page: Page, dashboard: Dashboard) -> None:
    open_page(page, dashboard.url, "Lineage")
    drawing = page.locator('[data-testid="stGraphVizChart"] svg')
    expect(drawing).to_be_visible()
    for stage in ("discover_episodes", "batch_events", "train_als", "serve_mongo"):
        node = drawing.locator("g.node").filter(
            has=page.locator("title", has_text=f"stage:{stage}")
        )
        expect(node).to_be_visible()
    settled(page)


@pytest.mark.parametrize("title", list(PAGES))
def test_empty_stores_get_a_friendly_page(page: Page, empty_dashboard: str, title: str) -> None:
    open_page(page, empty_dashboard, title)
    if title != "Lineage":
        expect(page.get_by_text(re.compile(r"^No .* yet:")).first).to_be_visible()
    settled(page)


@pytest.fixture(scope="module")
def empty_dashboard(
    mongo_uri: str, start_dashboard: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    url, _ = start_dashboard(mongo_uri, "dashboard_empty", tmp_path_factory.mktemp("no-delta"))
    found: str = url
    return found


def test_mongodb_away_is_said_in_a_sentence(
    page: Page, start_dashboard: Callable[..., Any], tmp_path: Path
) -> None:
    port = free_ports(1)[0]
    url, _ = start_dashboard(f"mongodb://me:secret@{LOOPBACK}:{port}", "podstream", tmp_path)
    for title in ("Live", "Recommendations", "Models", "Episodes"):
        page.goto(f"{url}/{PAGES[title]}")
        said = page.get_by_text(f"MongoDB does not answer at {LOOPBACK}:{port}")
        expect(said).to_be_visible()
        expect(page.locator('[data-testid="stException"]')).to_have_count(0)
        assert "secret" not in page.content()
