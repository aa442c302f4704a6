"""What was measured: one record for each window, and what several rounds come to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

CLOSED, OPEN = "closed", "open"


@dataclass(frozen=True)
class Key:
    """What rounds of one measurement have in common. `load` is the number of concurrent requests of a closed loop, and
    in an open one the requests per second, or `half` for half of the best throughput."""

    work: str
    contender: str
    setup: str
    protocol: str
    loop: str
    load: float | str


@dataclass(frozen=True)
class Record:
    """One window of one round. Times are in milliseconds; `server_cpu_ms` is the CPU time of all the server's processes
    for each request."""

    key: Key
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    server_cpu_ms: float | None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        listed = list(values)
        return cls(statistics.median(listed), min(listed), max(listed))


@dataclass
class Results:
    """All that a run of the suite has found."""

    records: list[Record] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    """Figures that are no load: a list of rounds for each name."""
    troubles: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def measured(self) -> list[Key]:
        """Every measurement, in the order in which they were first made."""
        return list(dict.fromkeys(record.key for record in self.records))

    def spread(self, key: Key, of: Callable[[Record], float | None]) -> Spread | None:
        """Of the rounds that have a number (one that had no answer has no latency); None if none has."""
        values = [value for record in self._of(key) if (value := of(record)) is not None and value == value]
        return Spread.of(values) if values else None

    def failed(self, key: Key) -> int:
        """Requests of a measurement that failed or were answered wrongly."""
        return sum(record.failed for record in self._of(key))

    def rate(self, *fields: Any) -> float | None:
        """The median of requests per second of Key(*fields)."""
        return _median(self.spread(Key(*fields), lambda record: record.rate))

    def p50(self, *fields: Any) -> float | None:
        """The median of the median latencies of Key(*fields)."""
        return _median(self.spread(Key(*fields), lambda record: record.p50_ms))

    def server_cpu(self, *fields: Any) -> float | None:
        """The median of the servers' CPU time for a request of Key(*fields)."""
        return _median(self.spread(Key(*fields), lambda record: record.server_cpu_ms))

    def best_rate(self, work: str, contender: str, setup: str, protocol: str) -> float | None:
        """The highest of the medians over all closed loops of a door."""
        wanted = (work, contender, setup, protocol, CLOSED)
        found = [self.rate(*wanted, key.load) for key in self.measured() if _door(key) == wanted]
        return max((rate for rate in found if rate is not None), default=None)

    def figure(self, name: str) -> float | None:
        """The median of a figure that is no load."""
        values = self.figures.get(name)
        return statistics.median(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "records": [asdict(record) for record in self.records],
            "figures": self.figures,
            "troubles": self.troubles,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Results:
        """The other direction."""
        records = [
            Record(Key(**each["key"]), *(each[name] for name in ("rate", "p50_ms", "p99_ms", "failed")),
                   each["server_cpu_ms"], tuple(each["failures"]))
            for each in value["records"]
        ]  # fmt: skip
        return cls(records, value["figures"], value["troubles"])

    def _of(self, key: Key) -> Iterator[Record]:
        return (record for record in self.records if record.key == key)


def _door(key: Key) -> tuple[str, str, str, str, str]:
    return key.work, key.contender, key.setup, key.protocol, key.loop


def _median(spread: Spread | None) -> float | None:
    return spread.median if spread else None
