import pytest

from streams.operations.core.imports import RowError
from streams.operations.core.movielens import episode_of_film, events_of_ratings

FILM = {
    "item_id": "1",
    "movie_title": "Toy Story",
    "release_year": "1995",
    "class": "Animation Children's Comedy",
}


def rating(user: str, item: str, stars: str, at: int) -> dict[str, str]:
    return {"user_id": user, "item_id": item, "rating": stars, "timestamp": str(at)}


def test_a_film_is_an_episode_with_title_and_genres_as_its_text() -> None:
    episode, transcript = episode_of_film(FILM)
    assert episode["episode_id"] == "ml:1"
    assert episode["categories"] == ["Animation", "Children's", "Comedy"]
    assert episode["show_title"] == "Animation"
    assert episode["published_at"].year == 1995
    assert transcript["text"] == "Toy Story (1995). Genres: Animation, Children's, Comedy."


def test_a_film_of_an_unknown_year_has_none() -> None:
    episode, _ = episode_of_film({**FILM, "release_year": "unkonwn"})
    assert (episode["title"], episode["published_at"]) == ("Toy Story", None)


def test_each_rating_is_one_event_in_the_order_of_time() -> None:
    events = events_of_ratings(
        [rating("2", "1", str(stars), 900_000_000 - stars) for stars in range(1, 6)]
    )
    assert [e["kind"] for e in events] == ["complete", "complete", "progress", "pause", "dislike"]
    heard = [e["heard_ms"] for e in events]
    assert heard == sorted(heard, reverse=True)
    assert events[0]["occurred_at"] == (900_000_000 - 5) * 1000
    assert len({e["event_id"] for e in events}) == 5


def test_a_rating_that_cannot_be_is_refused() -> None:
    with pytest.raises(RowError, match="between 1 and 5"):
        events_of_ratings([rating("2", "1", "6", 1)])
