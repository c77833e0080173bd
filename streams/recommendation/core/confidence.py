"""How strongly what a listener did with an episode speaks for it: the "rating" of implicit ALS.

Training and fold-in must weigh alike, so both take it from here. In the model of Hu, Koren and
Volinsky, a pair with strength r has the preference 1 if r > 0, else 0, and the confidence
1 + alpha·|r|: a negative strength says "not this one", zero says nothing. Spark scales the
regularisation by a listener's number of positive pairs, so the factors x of a listener solve

    (YᵀY + alpha·Σ|rᵢ|·yᵢyᵢᵀ + regularization·n·I) x = Σ_{rᵢ>0} (1 + alpha·rᵢ)·yᵢ,   n = #{rᵢ > 0}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.units import MINUTE_MS

LISTENING_UNIT_MS = 10.0 * MINUTE_MS
"""Ten minutes heard are one unit; the logarithm lets the first minutes weigh most."""

PLAY_WEIGHT = 0.25
COMPLETE_WEIGHT = 0.5
LIKE_WEIGHT = 1.0
_MOST_REPEATS = 8.0


def strength(
    heard_ms: ArrayLike,
    plays: ArrayLike,
    completes: ArrayLike,
    likes: ArrayLike,
    dislikes: ArrayLike = 0,
) -> NDArray[np.float32]:
    """The strength of each listener-episode pair, float32, in the shape of the arguments.

    Arguments are totals of the pair: milliseconds heard, times started, times heard to the end,
    likes and dislikes (only their difference counts, so a net number of likes may stand for both).
    The strength grows with all of the first four, and is 0 where nothing was heard or said. A pair
    with more dislikes than likes is negative, whatever was heard: -1 for each surplus dislike.
    """
    heard, played, completed, liked, disliked = np.broadcast_arrays(
        *(
            np.asarray(values, dtype=np.float64)
            for values in (heard_ms, plays, completes, likes, dislikes)
        )
    )
    net = np.clip(liked - disliked, -_MOST_REPEATS, _MOST_REPEATS)
    positive = (
        np.log2(1.0 + np.maximum(heard, 0.0) / LISTENING_UNIT_MS)
        + PLAY_WEIGHT * np.log2(1.0 + np.maximum(played, 0.0))
        + COMPLETE_WEIGHT * np.log2(1.0 + np.maximum(completed, 0.0))
        + LIKE_WEIGHT * np.maximum(net, 0.0)
    )
    return np.asarray(np.where(net < 0, net, positive), dtype=np.float32)
