"""Plots of a run as SVG: throughput and latency by concurrency, for each model and protocol."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite.results import CLOSED, Key, Results

_TITLES = {"rest": "REST", "grpc": "gRPC"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write them; needs matplotlib, of the extra `bench`."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "serving_app"  # the same figures make the same file
    written = []
    for work in dict.fromkeys(key.work for key in results.measured()):
        for protocol in _TITLES:
            keys = [key for key in results.measured() if (key.work, key.protocol, key.loop) == (work, protocol, CLOSED)]
            if len({key.load for key in keys}) > 1:
                written.append(_draw_one(results, keys, folder / f"{work}-{protocol}.svg"))
    return written


def _draw_one(results: Results, keys: list[Key], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    rates, latencies = figure.subplots(1, 2)
    for contender, setup in dict.fromkeys((key.contender, key.setup) for key in keys):
        own = [key for key in keys if (key.contender, key.setup) == (contender, setup)]
        points = []
        for key in sorted(own, key=lambda key: float(key.load)):
            rate = results.spread(key, lambda record: record.rate)
            p50 = results.spread(key, lambda record: record.p50_ms)
            if rate and p50:
                points.append((float(key.load), rate, p50))
        if not points:
            continue
        label = f"{contender}, {setup}" if setup else contender
        style = {"marker": "o", "linewidth": 2.2 if setup else 1.2, "linestyle": "-" if setup else "--", "label": label}
        loads = [load for load, _, _ in points]
        for axes, spreads in ((rates, [rate for _, rate, _ in points]), (latencies, [p50 for *_, p50 in points])):
            (line,) = axes.plot(loads, [spread.median for spread in spreads], **style)
            axes.fill_between(
                loads, [spread.least for spread in spreads], [spread.most for spread in spreads], alpha=0.15,
                color=line.get_color(), linewidth=0,
            )  # fmt: skip
    for axes, title in ((rates, "requests per second"), (latencies, "median latency in ms")):
        axes.set(xscale="log", yscale="log", xlabel="requests under way at a time", title=title)
        loads_shown = sorted({float(key.load) for key in keys})
        axes.set_xticks(loads_shown, [f"{load:g}" for load in loads_shown])
        axes.grid(alpha=0.3)
    figure.legend(*rates.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.suptitle(f"{keys[0].work}, {_TITLES[keys[0].protocol]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return path
