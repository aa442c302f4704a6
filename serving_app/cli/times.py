"""Points in time, for people. All are seconds since 1970, as clocks of the cluster tell them."""

from __future__ import annotations

from datetime import datetime

_UNITS = ((86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


def duration(seconds: float) -> str:
    """A length of time in its largest unit: `3 min`."""
    for size, one, many in _UNITS:
        count = int(seconds // size)
        if count:
            return f"{count} {one if count == 1 else many}"
    return "0 s"


def ago(at: float, now: float) -> str:
    """`3 min ago`. Clocks of two nodes differ a little, so what has just happened may lie ahead."""
    return f"{duration(now - at)} ago" if now - at >= 1 else "just now"


def ahead(at: float, now: float) -> str:
    """`in 3 min`, for what is due."""
    return f"in {duration(at - now)}" if at - now >= 1 else "now"


def local(at: float, now: float) -> str:
    """The time of day here; with the date, unless that is today's."""
    moment = datetime.fromtimestamp(at)
    form = "%H:%M:%S" if moment.date() == datetime.fromtimestamp(now).date() else "%Y-%m-%d %H:%M:%S"
    return moment.strftime(form)
