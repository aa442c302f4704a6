"""What a run has found, as tables in Markdown: for people at a terminal, and for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.suite.ratios import Ratio
from benchmarks.suite.results import CLOSED, OPEN, Key, Record, Results


def write(results: Results, ratios: Sequence[Ratio], machine: dict[str, str]) -> str:
    """The whole page."""
    parts = ["# Figures of the benchmark suite", _machine(machine), "## Ratios", ratio_table(ratios)]
    for work in dict.fromkeys(key.work for key in results.measured()):
        parts += [
            f"## {work}",
            "Requests per second (median latency), closed loops:",
            _closed(results, work, _cell),
            "CPU time of all processes of the server for each request:",
            _closed(results, work, _cpu_cell),
        ]
        if open_loops := _open(results, work):
            parts += ["Open loops: latency from the time at which a request was to be sent.", open_loops]
    if results.figures:
        lines = [f"- {name}: {', '.join(f'{value:.3g}' for value in values)}"
                 for name, values in results.figures.items()]  # fmt: skip
        parts += ["## Other figures", "\n".join(lines)]
    if results.troubles:
        parts += ["## What could not be measured", "\n".join(f"- {trouble}" for trouble in results.troubles)]
    return "\n\n".join(parts) + "\n"


def ratio_table(ratios: Iterable[Ratio]) -> str:
    """The rows, what was to be reached, what was found."""
    rows = [
        [
            ratio.work,
            ", ".join(map(str, ratio.targets)),
            ", ".join("–" if value is None else f"{value:.2f}" for value in ratio.values),
            ratio.verdict,
        ]
        for ratio in ratios
    ]
    return table(["work", "target", "found", ""], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _machine(machine: dict[str, str]) -> str:
    return "Measured on " + ", ".join(f"{name} {value}" for name, value in machine.items()) + "."


def _closed(results: Results, work: str, cell: Callable[[Results, Key], str]) -> str:
    keys = [key for key in results.measured() if key.work == work and key.loop == CLOSED]
    loads = sorted({key.load for key in keys if isinstance(key.load, int | float)})
    rows = []
    for door in _doors(keys):
        cells = []
        for load in loads:
            key = next((key for key in keys if door == _door(key) and key.load == load), None)
            cells.append(cell(results, key) if key else "")
        rows.append([_name(door), *cells])
    return table(["", *(f"c={load:g}" for load in loads)], rows)


def _cell(results: Results, key: Key) -> str:
    rate = results.spread(key, lambda record: record.rate)
    p50 = results.spread(key, lambda record: record.p50_ms)
    if rate is None:
        return "–"
    width = (rate.most - rate.least) / rate.median * 50 if rate.median else 0.0
    failed = results.failed(key)
    latency = f" ({p50.median:.2f} ms)" if p50 else ""
    return f"{rate.median:,.0f} ± {width:.0f} %{latency}" + (f" **{failed} failed**" if failed else "")


def _cpu_cell(results: Results, key: Key) -> str:
    cpu = results.spread(key, lambda record: record.server_cpu_ms)
    return f"{cpu.median:.3f} ms" if cpu else "–"


def _open(results: Results, work: str) -> str:
    keys = [key for key in results.measured() if key.work == work and key.loop == OPEN]
    if not keys:
        return ""
    rows = []
    for key in keys:
        ratio = _median(results, key, lambda record: record.p99_ms / record.p50_ms)
        rows.append([
            _name(_door(key)),
            "half of the best" if key.load == "half" else f"{key.load:g}",
            f"{_median(results, key, lambda record: record.rate):,.0f}",
            f"{_median(results, key, lambda record: record.p50_ms):.2f} ms",
            f"{_median(results, key, lambda record: record.p99_ms):.2f} ms",
            f"{ratio:.1f}",
            str(results.failed(key) or ""),
        ])  # fmt: skip
    return table(["", "rate", "answered /s", "p50", "p99", "p99 / p50", "failed"], rows)


def _median(results: Results, key: Key, of: Callable[[Record], float]) -> float:
    spread = results.spread(key, of)
    return spread.median if spread else float("nan")


Door = tuple[str, str, str]


def _door(key: Key) -> Door:
    return key.contender, key.setup, key.protocol


def _doors(keys: Iterable[Key]) -> list[Door]:
    return list(dict.fromkeys(_door(key) for key in keys))


def _name(door: Door) -> str:
    contender, setup, protocol = door
    name = f"{contender}, {setup}" if setup else contender
    return name if protocol == "call" else f"{name}, {'REST' if protocol == 'rest' else 'gRPC'}"
