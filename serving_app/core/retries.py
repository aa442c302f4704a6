"""How long to wait before a failed load is tried again."""

from __future__ import annotations


def find_delay(retries_before: int, *, base_s: float, max_s: float, quick_retries: int, slow_s: float) -> float:
    """The wait before the next retry of something that was retried this often already.

    The first `quick_retries` come each after twice the wait of the one before, but no more than `max_s`: most faults
    pass soon. All later ones are `slow_s` apart, for ever: what is still broken then mostly waits for a person.
    """
    if retries_before >= quick_retries:
        return slow_s
    doublings = min(retries_before, 64)  # beyond that only the maximum counts, and floats overflow
    return min(base_s * 2.0**doublings, max_s)
