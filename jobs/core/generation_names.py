"""Names of model generations: a later one sorts after an earlier one, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_FORM = "%Y%m%dT%H%M%SZ"


def next_name(trained_at: datetime, newest: str) -> str:
    """The name of a generation that was trained then, after the one of the name ``newest``.

    It is the time, in UTC. Where the clock was set back, or two trainings are in one second, it is
    a second after the newest: readers take over what sorts last.
    """
    name = trained_at.astimezone(UTC).strftime(_FORM)
    if name > newest:
        return name
    try:
        at = datetime.strptime(newest, _FORM).replace(tzinfo=UTC)
    except ValueError:  # a name of another form, from another trainer
        return f"{newest}~"
    return (at + timedelta(seconds=1)).strftime(_FORM)
