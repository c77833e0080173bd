"""A made-up evening of listening, in MongoDB and Delta, as the stages would have written it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
from deltalake import write_deltalake
from pymongo.database import Database

from tests.browser.seed_analysis import seed_analysis
from tests.hours import put_counts

MINUTE = timedelta(minutes=1)
COUNTS = ("impressions", "clicks", "plays", "completes", "streams")

SUBJECTS = {
    "Science": ("Tidal Minds", ["the moon's pull", "glass frogs", "deep-sea vents", "old light"]),
    "History": ("Salt Roads", ["the amber trade", "a lost library", "harbour clocks", "maps"]),
    "Technology": ("Quiet Machines", ["small languages", "clock drift", "logs as truth", "chips"]),
    "Music": ("Second Chorus", ["minor thirds", "a cello's year", "tape echo", "work songs"]),
    "Food": ("Slow Ferment", ["rye and time", "koji", "bitter greens", "the price of vanilla"]),
    "Sports": ("Extra Time", ["the long run", "penalty nerves", "rowing at dawn", "altitude"]),
    "Business": ("Margin Notes", ["pricing bread", "the quiet merger", "harbour fees", "tips"]),
    "Nature": ("Understory", ["lichen clocks", "wolves and rivers", "moss", "the dawn chorus"]),
}
FORMS = ("What we got wrong about {}", "{}, explained", "A year with {}", "Listening to {}")
HOSTILE = "<script>document.title='owned'</script> & <b>bold</b> [link](http://example.org)"


@dataclass
class Stores:
    """The seeded stores, and what was put into them."""

    database: Database[dict[str, Any]]
    delta_root: Path
    now: datetime
    episodes: list[dict[str, Any]] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(7))


def put_windows(stores: Stores, minute: datetime, episodes: int, scale: float) -> dict[str, int]:
    """Write the windows of one minute as serve_mongo does; give the sums of its counts."""
    total = dict.fromkeys((*COUNTS, "heard_ms"), 0)
    weights = [1 / (place + 3) for place in range(len(stores.episodes))]
    chosen = {e["_id"] for e in stores.random.choices(stores.episodes, weights=weights, k=episodes)}
    documents = []
    for episode_id in sorted(chosen):
        impressions = max(1, round(stores.random.gammavariate(4, 3 * scale)))
        clicks = round(impressions * stores.random.uniform(0.1, 0.4))
        plays = round(clicks * stores.random.uniform(0.5, 1.0))
        counts = {
            "impressions": impressions,
            "clicks": clicks,
            "plays": plays,
            "completes": round(plays * stores.random.uniform(0.1, 0.6)),
            "heard_ms": plays * stores.random.randrange(180_000, 1_500_000),
            "streams": round(plays * 0.8),
            "listeners": plays,
            "engaged": round(plays * 0.4),
            "new_listeners": round(plays * 0.9),
        }
        documents.append(
            {
                "_id": f"{episode_id}|{minute:%Y-%m-%dT%H:%MZ}",
                "episode_id": episode_id,
                "bucket": minute,
                **counts,
                "parts": {"0": {"offset": 1, **counts}},
            }
        )
        total = {name: total[name] + counts[name] for name in total}
    stores.database["engagement_windows"].insert_many(documents)
    put_counts(stores.database, minute, total)
    return total


def seed(stores: Stores) -> None:
    """Fill MongoDB and Delta with what the stages would have written."""
    random, now = stores.random, stores.now
    for place in range(160):
        category = list(SUBJECTS)[place % len(SUBJECTS)]
        show, subjects = SUBJECTS[category]
        subject = subjects[place // len(SUBJECTS) % len(subjects)]
        title = FORMS[place // 8 % len(FORMS)].format(subject).capitalize()
        stores.episodes.append(
            {
                "_id": f"demo:{1000 + place}",
                "episode_id": f"demo:{1000 + place}",
                "title": HOSTILE if place == 6 else title,
                "show_id": f"demo:show-{place % len(SUBJECTS)}",
                "show_title": show,
                "description": f"In this episode of {show} we follow {subject} all the way home.",
                "categories": [category],
                "language": "de" if place % 10 == 3 else "en",
                "published_at": now - timedelta(hours=7 * place + 1),
                "duration_s": random.randrange(900, 4200),
                "explicit": False,
            }
        )
    stores.database["episodes"].insert_many(stores.episodes)
    minute = now.replace(second=0, microsecond=0)
    # an hour short of a day, so that none leaves the longest window while a test looks at it
    for back in sorted([*range(1, 75), *range(80, 23 * 60, 15)], reverse=True):
        put_windows(stores, minute - back * MINUTE, 26, 1.2 + 0.5 * random.random())
    seed_rankings(stores)
    seed_rolling(stores)
    seed_days(stores)
    seed_anomalies(stores)
    seed_lists(stores)
    seed_metrics(stores)
    seed_generations(stores)
    seed_delta(stores)
    seed_analysis(stores.delta_root, stores.episodes, HOSTILE)


def seed_rankings(stores: Stores) -> None:
    """The rankings of everything, of each category and language, and of both at once."""
    languages = ("de", "en")
    scopes = [("all", "", "")]
    scopes += [(f"category:{name}", name, "") for name in SUBJECTS]
    scopes += [(f"language:{tag}", "", tag) for tag in languages]
    scopes += [
        (f"category:{name}|language:{tag}", name, tag) for name in SUBJECTS for tag in languages
    ]
    for scope, category, language in scopes:
        ranked = [
            episode
            for episode in stores.episodes
            if (not category or category in episode["categories"])
            and (not language or language == episode["language"])
        ][:20]
        episodes = []
        for place, episode in enumerate(ranked):
            recent, usual = 40 - 2 * place, 3.5 * (place % 4)
            episodes.append(
                {
                    "episode_id": episode["_id"],
                    "score": 60 * 0.88**place,
                    "plays": 90 - 4 * place,
                    "recent": recent,
                    "usual": usual,
                    "rise": (recent + 1) / (usual + 1),
                }
            )
        stores.database["trending_episodes"].insert_one(
            {"_id": scope, "scope": scope, "at": stores.now, "ranked": True, "episodes": episodes}
        )


def rolling_counts(stores: Stores, listeners: int) -> dict[str, int]:
    """Plausible counts of a scope with so many listeners."""
    random = stores.random
    plays = round(listeners * random.uniform(1.0, 1.6))
    return {
        "impressions": plays * random.randrange(4, 9),
        "clicks": plays * 2,
        "plays": plays,
        "completes": round(plays * random.uniform(0.1, 0.5)),
        "heard_ms": plays * random.randrange(180_000, 1_500_000),
        "streams": round(plays * random.uniform(0.6, 0.9)),
        "listeners": listeners,
        "engaged": round(listeners * random.uniform(0.2, 0.6)),
    }


def seed_rolling(stores: Stores) -> None:
    """The rolling windows of episodes, shows and categories."""
    shows = {e["show_id"]: e["show_title"] for e in stores.episodes}
    named = {
        "episode": [
            (e["_id"], {"title": e["title"], "show": e["show_title"]}) for e in stores.episodes
        ],
        "show": [(show_id, {"title": title}) for show_id, title in shows.items()],
        "category": [(name, {"title": name}) for name in SUBJECTS],
    }
    minute = stores.now.replace(second=0, microsecond=0)
    for kind, scopes in named.items():
        for minutes in (1, 5, 15, 60, 1440):
            most = round(20 * minutes**0.6)
            counted = [
                {
                    **names,
                    "scope": scope,
                    **rolling_counts(stores, max(1, round(most / (1 + 0.3 * place)))),
                }
                for place, (scope, names) in enumerate(scopes[: 12 + minutes])
            ]
            stores.database["rolling_windows"].insert_one(
                {
                    "_id": f"{kind}|{minutes}",
                    "kind": kind,
                    "minutes": minutes,
                    "at": minute,
                    "active": len(counted) + 7,
                    "scopes": counted,
                }
            )


def seed_days(stores: Stores) -> None:
    """Two weeks of the first episodes: counts and retention, with an advertisement at minute 9."""
    random, today = stores.random, stores.now.replace(hour=0, minute=0, second=0, microsecond=0)
    for episode in stores.episodes[:12]:
        for back in range(14):
            if back == 5:
                continue
            downloads = round(240 * 0.85**back * random.uniform(0.7, 1.2)) + 5
            keeps = [0.995] * (episode["duration_s"] // 60)
            keeps[1], keeps[9] = 0.86, 0.74
            curve, listeners = [], downloads * 0.97
            for keep in keeps:
                listeners *= keep
                curve.append(round(listeners))
            day = today - timedelta(days=back)
            stores.database["episode_days"].insert_one(
                {
                    "_id": f"{episode['_id']}|{day:%Y-%m-%d}",
                    "episode_id": episode["_id"],
                    "day": day,
                    "final": back > 1,
                    "impressions": downloads * 7,
                    "clicks": downloads * 2,
                    "plays": round(downloads * 1.2),
                    "completes": round(downloads * 0.3),
                    "heard_ms": downloads * 700_000,
                    "streams": round(downloads * 0.8),
                    "engaged": round(downloads * 0.5),
                    "downloads": downloads,
                    "retention": curve,
                }
            )


def seed_anomalies(stores: Stores) -> None:
    """A few rises and falls; and events that came too late."""
    minute = stores.now.replace(second=0, microsecond=0)
    for place, direction in enumerate(("rise", "rise", "fall", "rise", "fall")):
        at = minute - timedelta(minutes=7 + 95 * place)
        episode_id = stores.episodes[5 + place]["_id"]
        plays, expected = (48 - place, 6.5 + place) if direction == "rise" else (1, 25.0 + place)
        stores.database["episode_anomalies"].insert_one(
            {
                "_id": f"{episode_id}|{at:%Y-%m-%dT%H:%MZ}",
                "episode_id": episode_id,
                "at": at,
                "direction": direction,
                "plays": plays,
                "expected": expected,
                "score": 7.5 - place if direction == "rise" else place - 7.5,
            }
        )
    for stage in ("track_engagement", "track_listening"):
        for partition in range(4):
            stores.database["table_progress"].insert_one(
                {
                    "_id": f"{stage}|{partition}",
                    "stage": stage,
                    "source_partition": partition,
                    "offset": 30_000,
                    "watermark": stores.now,
                    "late": 10 + partition,
                    "events": 29_000,
                }
            )


def seed_lists(stores: Stores) -> None:
    """Lists of 50 for 60 listeners, the first the newest."""
    random = stores.random
    reasons = ("because you finished Moss, explained", "people who listen like you", "new")
    for listener in range(60):
        chosen = random.sample(stores.episodes, 50)
        items = []
        for place, episode in enumerate(chosen):
            fade = 0.97**place
            parts = {
                "als": fade * random.uniform(0.55, 0.98),
                "content": fade * random.uniform(0.2, 0.9),
                "trending": fade * random.uniform(0.0, 0.6),
            }
            score = 0.55 * parts["als"] + 0.3 * parts["content"] + 0.15 * parts["trending"]
            reason = random.choice((*reasons, f"trending in {episode['categories'][0]}"))
            items.append(
                {
                    "episode_id": episode["_id"],
                    "title": episode["title"],
                    "show": episode["show_title"],
                    "score": score,
                    "parts": parts,
                    "reason": reason,
                }
            )
        stores.database["final_recommendations"].insert_one(
            {
                "_id": f"listener-{listener:03d}",
                "items": sorted(items, key=lambda item: -item["score"]),
                "generation": "20261101T120000Z",
                "updated_at": stores.now - timedelta(seconds=3 + 11 * listener),
                "caused_by": f"event-{9000 + listener}",
            }
        )


def seed_metrics(stores: Stores) -> None:
    """Eight generations of ALS and popularity, and an hour of the blend with one drift."""
    rows: list[tuple[str, str, str, float, datetime]] = []
    final = {"ndcg_at_10": 0.31, "recall_at_10": 0.22, "map_at_10": 0.17, "coverage": 0.78}
    for number in range(8):
        at = stores.now - timedelta(minutes=4 * (8 - number))
        generation = f"{at:%Y%m%dT%H%M%SZ}"
        for metric, value in final.items():
            grown = value * (1 - 0.45 * 0.6**number) * stores.random.uniform(0.98, 1.02)
            rows.append(("als", generation, metric, grown, at))
            base = value * (0.1 if metric == "coverage" else 0.52)
            rows.append(
                ("popularity", generation, metric, base * stores.random.uniform(0.96, 1.04), at)
            )
    course = []
    for minute in range(60):
        at = stores.now - timedelta(minutes=60 - minute)
        learned = 1 - 0.9 ** (minute + 1) if minute < 40 else 1 - 0.9 ** (minute - 30)
        for partition in range(4):
            noise = stores.random.uniform(-0.01, 0.01)
            figures = {
                "auc": 0.52 + 0.24 * learned + noise,
                "log_loss": 0.66 - 0.2 * learned - noise,
                "drift": float(partition == 1 and 40 <= minute < 50),
                "samples": 40.0 * (minute + 1),
            }
            course += [("blend", f"partition-{partition}", n, v, at) for n, v in figures.items()]
    # MongoDB keeps the newest value of each figure, Delta all of them
    rows += {row[:3]: row for row in course}.values()
    write_deltalake(
        str(stores.delta_root / "model_metrics"),
        pl.DataFrame(
            course, schema=["model", "generation", "metric", "value", "at"], orient="row"
        ).to_arrow(),
    )
    stores.database["model_metrics"].insert_many(
        {
            "_id": f"{model}|{generation}|{metric}",
            "model": model,
            "generation": generation,
            "metric": metric,
            "value": value,
            "at": at,
        }
        for model, generation, metric, value, at in rows
    )


REFUSED_BECAUSE = "nDCG@10 of 0.0100, where the one in service would have 0.3000"


def seed_generations(stores: Stores) -> None:
    """Two trainings: the later one is refused."""
    for minutes, because in ((90, ""), (30, REFUSED_BECAUSE)):
        at = stores.now - timedelta(minutes=minutes)
        name = f"{at:%Y%m%dT%H%M%SZ}"
        stores.database["model_generations"].insert_one(
            {
                "_id": name, "generation": name, "model": "als", "trained_at": at, "users": 400,
                "items": len(stores.episodes), "interactions": 9_000, "train_seconds": 12.0,
                "refused_because": because,
            }
        )  # fmt: skip


def seed_delta(stores: Stores) -> None:
    """Three weeks of daily rows, an hour of events, and the transcripts."""
    random, now = stores.random, stores.now
    write_deltalake(
        str(stores.delta_root / "episodes"),
        pl.DataFrame(
            [{"episode_id": e["_id"], "title": e["title"]} for e in stores.episodes]
        ).to_arrow(),
    )
    statuses = ("ok", "ok", "ok", "ok", "none", "failed")
    transcripts = []
    for place, episode in enumerate(stores.episodes):
        status = statuses[place % len(statuses)]
        text = f"Welcome to {episode['show_title']}. " * 60 if status == "ok" else ""
        transcripts.append(
            {
                "episode_id": episode["_id"],
                "status": status,
                "format": "vtt" if text else "",
                "text": text,
                "words": len(text.split()),
            }
        )
    write_deltalake(
        str(stores.delta_root / "transcripts"),
        pl.DataFrame(transcripts).with_columns(pl.col("words").cast(pl.Int32)).to_arrow(),
    )
    older = []
    for hours in range(20, 8 * 24):
        at = now.replace(minute=0, second=0) - timedelta(hours=hours)
        plays = round(90 + 60 * random.random() + 40 * (at.hour > 16))
        older.append(
            {
                "episode_id": stores.episodes[hours % 20]["_id"],
                "bucket": at + timedelta(minutes=random.randrange(60)),
                "source_partition": 0,
                "impressions": plays * 6,
                "clicks": plays * 2,
                "plays": plays,
                "completes": plays // 3,
                "heard_ms": plays * 900_000,
                "streams": plays,
                "event_date": at.date(),
            }
        )
    write_deltalake(
        str(stores.delta_root / "engagement_minutes"),
        pl.DataFrame(older).to_arrow(),
        partition_by=["event_date"],
    )
    daily = []
    for back in range(21):
        day = (now - timedelta(days=back)).date()
        for listener in random.sample(range(60), random.randrange(25, 50)):
            for episode in random.sample(stores.episodes[:80], random.randrange(1, 6)):
                plays = random.randrange(1, 3)
                daily.append(
                    {
                        "user_id": f"listener-{listener:03d}",
                        "episode_id": episode["_id"],
                        "day": day,
                        "plays": plays,
                        "completes": random.randrange(0, plays + 1),
                        "heard_ms": plays * random.randrange(200_000, 2_400_000),
                    }
                )
    write_deltalake(
        str(stores.delta_root / "user_vs_episode_daily"), pl.DataFrame(daily).to_arrow()
    )
    kinds = ("impression",) * 6 + ("click", "click", "play", "progress", "progress", "complete")
    events = []
    for offset in range(3000):
        at = now - timedelta(seconds=1.2 * (3000 - offset))
        kind = random.choice(kinds)
        events.append(
            {
                "source_partition": offset % 4,
                "source_offset": offset // 4,
                "event_id": f"event-{offset}",
                "user_id": f"listener-{random.randrange(60):03d}",
                "episode_id": random.choice(stores.episodes)["_id"],
                "kind": kind,
                "occurred_at": at,
                "heard_ms": random.randrange(5_000, 60_000) if kind == "progress" else 0,
                "position_ms": random.randrange(0, 1_800_000),
                "surface": random.choice(("home", "search", "autoplay")),
                "rank": random.randrange(1, 11),
                "event_date": at.date(),
            }
        )
    write_deltalake(
        str(stores.delta_root / "user_events"),
        pl.DataFrame(events).to_arrow(),
        partition_by=["event_date"],
    )
