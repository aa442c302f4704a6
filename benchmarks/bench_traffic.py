"""What it costs to decide which version a request gets, and how well the shares are met.

    python -m benchmarks.bench_traffic

`resolve` is called for 100,000 requests of one model, of which each names a user of its own: where nothing is shared,
where two versions share by chance, by a key, and where two rules of an audience come before that. Told are microseconds
per call (the best of five rounds, as the machine's other work only adds to it) and how far the share of the version
with 10 percent is from that, in points. Then the weight of that version grows from 10 to 20: counted are the users who
change to it, and those who change in any other way.
"""

from __future__ import annotations

import time
from collections import Counter

from serving_app.core.routing import ModelRoutes, Route, RouteTable, resolve
from serving_app.core.servable import ModelSpec, ServableId
from serving_app.core.traffic import Attributes, Rule, Traffic

REQUESTS = 100_000
ROUNDS = 5

ROUTES = {version: Route(ServableId("m", version), f"m@{version}", {}) for version in (1, 2)}
RULES = (Rule("x-team", 2, frozenset({"ads", "search"})), Rule("user-agent", 2, pattern="curl/.*"))
SHARED = {
    "not shared": None,
    "by chance": Traffic({1: 90.0, 2: 10.0}),
    "by a key": Traffic({1: 90.0, 2: 10.0}, "x-user", seed="m"),
    "by a key, after two rules": Traffic({1: 90.0, 2: 10.0}, "x-user", RULES, seed="m"),
}


def main() -> None:
    """Measure, and print a table."""
    asked = [of_user(f"user-{number}") for number in range(REQUESTS)]
    print(f"{'requests are shared':<28}{'us per resolve':>16}{'points off 10 %':>18}")
    for name, traffic in SHARED.items():
        table = table_of(traffic)
        took = min(measure(table, asked) for _ in range(ROUNDS))
        got = Counter(sides(table, asked))
        off = f"{abs(100 * got[2] / REQUESTS - 10):18.2f}" if traffic else f"{'':>18}"
        print(f"{name:<28}{1e6 * took / REQUESTS:16.2f}{off}")
    before = sides(table_of(SHARED["by a key"]), asked)
    after = sides(table_of(Traffic({1: 80.0, 2: 20.0}, "x-user", seed="m")), asked)
    moves = Counter(zip(before, after, strict=True))
    print(f"from 10 to 20 %: {moves[1, 2]} users of {REQUESTS} change to it, {moves[2, 1]} from it")


def of_user(user: str) -> Attributes:
    """The attributes of a request that tells who it is from."""
    return {"x-user": user, "user-agent": "python"}.get


def table_of(traffic: Traffic | None) -> RouteTable:
    """Routes to two versions, shared so."""
    return RouteTable(1, {"m": ModelRoutes(ROUTES, traffic={"": traffic} if traffic else {})})


def sides(table: RouteTable, asked: list[Attributes]) -> list[int]:
    """The version that each request gets."""
    return [resolve(ModelSpec("m"), table, attributes).servable.version for attributes in asked]


def measure(table: RouteTable, asked: list[Attributes]) -> float:
    """The seconds of CPU for all requests."""
    spec = ModelSpec("m")
    began = time.process_time()
    for attributes in asked:
        resolve(spec, table, attributes)
    return time.process_time() - began


if __name__ == "__main__":
    main()
