"""The metrics page: a snapshot in Prometheus' text form, as TensorFlow Serving writes it (prometheus_exporter.cc).

Every family has its TYPE line, also without a cell; none has a HELP line. Names keep their letters, and every other
character becomes a colon. In one thing this is not TensorFlow Serving's text: the sums of histograms have all of their
digits, because six of them do not show how a large sum grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate

from serving_app.core.metrics import Cells, Family, Kind, Labels, Snapshot

_FOREIGN_IN_NAME = re.compile(r"[^A-Za-z0-9_]")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def exposed_name(name: str) -> str:
    """A family's name as Prometheus may read it."""
    return _FOREIGN_IN_NAME.sub(":", name)


def exposed_label(label: str) -> str:
    """A label's name as Prometheus may read it."""
    return _FOREIGN_IN_NAME.sub("_", label)


def limit_text(limit: float) -> str:
    """The upper limit of a bucket, as the label `le` tells it."""
    return f"{limit:g}"


def encode_page(families: Iterable[Family], snapshot: Snapshot) -> bytes:
    """The page of these families, in order of their names."""
    lines = (
        line
        for family in sorted(families, key=lambda each: each.name)
        for line in _family_lines(family, snapshot.get(family.name, {}))
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _family_lines(family: Family, cells: Cells) -> Iterator[str]:
    name = exposed_name(family.name)
    names = [exposed_label(label) for label in family.labels]
    yield f"# TYPE {name} {family.kind.value}"
    for labels, value in sorted(cells.items(), key=_by_labels):
        pairs = [f'{label}="{text.translate(_ESCAPES)}"' for label, text in zip(names, labels, strict=True)]
        if family.kind is not Kind.HISTOGRAM:
            assert not isinstance(value, tuple)
            yield f"{name}{{{','.join(pairs)}}} {_number(value)}"
            continue
        assert isinstance(value, tuple)
        *counts, summed = value
        limits = [*(limit_text(limit) for limit in family.limits), "+Inf"]
        for limit, count in zip(limits, accumulate(counts), strict=True):
            bucket = ",".join([*pairs, f'le="{limit}"'])
            yield f"{name}_bucket{{{bucket}}} {_number(count)}"
        yield f"{name}_sum{{{','.join(pairs)}}} {_number(summed)}"
        yield f"{name}_count{{{','.join(pairs)}}} {_number(sum(counts))}"


def _by_labels(cell: tuple[Labels, object]) -> Labels:
    return cell[0]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
