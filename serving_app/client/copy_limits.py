"""What copies of requests may cost the process that makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What copies may cost in one process."""

    waiting: int = 256
    """Copies that wait to be sent, or compared."""
    flying: int = 128
    """Copies that one candidate has in hand."""
    each_bytes: int = 32 << 20
    """What one request may carry, both ways, to be copied."""
    all_bytes: int = 64 << 20
    turn_s: float = 0.0005
    """About how long a turn takes at most."""
    gather_s: float = 0.1
    """How long answers wait for others to be compared with: a comparison costs much, and one more answer little."""
    pause_s: float = 0.001
    pause_factor: float = 3.0
    """So many times what a turn took it pauses at least: with 3 a quarter of the loop's time is for copies."""
    most_pause_s: float = 1.0
    """However long a turn took: the process may have been stopped meanwhile."""
    late_s: float = 0.05
    """A turn that comes later than this finds the loop too busy, and keeps of what waits one copy at each look."""
    busy_share: float = 0.9
    """A loop that works, or waits for a processor, for a larger part of the time has none to spare: then one copy is
    made at each look."""
    waiting_share: float = 0.25
    """The same for one that waits for a processor for a larger part of the time: whatever it is that keeps them busy,
    copies would be computed on them, too."""
    answer_s: float = 30.0
    """How long a candidate may take for one copy, if the client has given no shorter time."""


USUAL = Limits()
