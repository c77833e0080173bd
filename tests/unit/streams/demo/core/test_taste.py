import numpy as np

from streams.demo.core.taste import LARGEST_PULL, Catalogue, liking, pull


def test_draws_depend_on_seed_and_name_only() -> None:
    assert liking(1, "a", "news") == liking(1, "a", "news")
    assert len({liking(1, "a", "news"), liking(2, "a", "news"), liking(1, "b", "news")}) == 3


def test_tastes_are_concentrated() -> None:
    draws = np.array([[liking(1, f"u{u}", f"c{c}") for c in range(10)] for u in range(100)])
    shares = draws / draws.sum(axis=1, keepdims=True)
    assert 0.35 < shares.max(axis=1).mean() < 0.75


def test_a_withdrawn_episode_draws_nobody_until_it_is_back() -> None:
    catalogue = Catalogue(1)
    catalogue.withdraw("y")
    for name in ("x", "y"):
        catalogue.add(name, ["news"], 1000)
    before = catalogue.pulls()
    catalogue.withdraw("x")
    catalogue.withdraw("never seen")
    assert ("x" in catalogue, "y" in catalogue) == (False, True)
    assert catalogue.pulls().tolist() == [0.0, before[1]]
    catalogue.add("x", ["news"], 1000)
    assert catalogue.pulls().tolist() == before.tolist()


def test_popularity_is_skewed_and_bounded() -> None:
    pulls = np.sort([pull(1, f"e{n}") for n in range(2000)])[::-1]
    assert pulls.min() >= 1.0
    assert pulls.max() <= LARGEST_PULL
    assert pulls[:200].sum() > 0.35 * pulls.sum()


def test_categories_that_arrive_later_leave_earlier_matches_in_proportion() -> None:
    late, early = Catalogue(1), Catalogue(1)
    for catalogue in (late, early):
        catalogue.add("x", ["news"], 1000)
        catalogue.add("y", ["arts"], 1000)
    before = late.matches("u")
    for catalogue in (late, early):
        catalogue.add("z", ["sports", "news"], 1000)
    after, whole = late.matches("u"), early.matches("u")
    assert after.tolist() == whole.tolist()
    assert np.isclose(before[0] * after[1], before[1] * after[0])


def test_the_favourite_matches_fully_and_mixtures_by_their_mean() -> None:
    catalogue = Catalogue(3)
    catalogue.add("x", ["news"], 1000)
    catalogue.add("y", ["arts"], 1000)
    catalogue.add("both", ["arts", "news"], 1000)
    x, y, both = catalogue.matches("u")
    assert max(x, y) == 1.0
    assert np.isclose(both, (x + y) / 2)


def test_an_episode_may_change_its_categories_and_may_have_none() -> None:
    catalogue = Catalogue(3)
    catalogue.add("x", [], 1000)
    catalogue.add("y", ["arts"], 1000)
    catalogue.add("x", ["arts"], 2000)
    x, y = catalogue.matches("u")
    assert x == y
    assert len(catalogue) == 2
    assert catalogue.duration_ms("x") == 2000
