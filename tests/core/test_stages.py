"""How the time of requests is told apart."""

from __future__ import annotations

import pytest

from serving_app.core.families import STAGE_MICROSECONDS, STAGE_REQUESTS
from serving_app.core.metrics import Labels, Snapshot
from serving_app.core.stages import Stage, break_down, leg


def looks(*cells: tuple[Labels, int, int]) -> Snapshot:
    return {
        STAGE_REQUESTS.name: {labels: requests for labels, requests, _ in cells},
        STAGE_MICROSECONDS.name: {labels: micros for labels, _, micros in cells},
    }


@pytest.mark.parametrize(
    ("requests", "held", "ran", "hop", "batch_wait", "run"),
    [
        (1, 6.0, 5.0, 4.0, 1.0, 5.0),
        (4, 6.0, 8.0, 4.0, 4.0, 2.0),
        (1, 6.0, 9.0, 4.0, 0.0, 6.0),
        (1, 12.0, 5.0, 0.0, 5.0, 5.0),
        (1, 0.0, 0.0, 10.0, 0.0, 0.0),
    ],
    ids=["one", "four that ran together or in turn", "in pieces", "another clock", "a replica that tells nothing"],
)
def test_a_leg_adds_up(requests: int, held: float, ran: float, hop: float, batch_wait: float, run: float) -> None:
    """Hop, wait and run are all of the ten seconds between leaving and coming back, and none is less than nothing."""
    assert leg(100.0, 110.0, requests, held, ran)[2:] == (hop, batch_wait, run)


REST = ("m", "1", "REST")


def test_what_grew_is_broken_down() -> None:
    """Requests between two looks are averaged over all versions, and shares are parts of the whole."""
    before = looks(((*REST, "decode"), 10, 1000), ((*REST, "run"), 10, 5000))
    after = looks(
        ((*REST, "decode"), 30, 3000),
        ((*REST, "run"), 30, 9000),
        (("m", "2", "REST", "decode"), 20, 2000),
        (("m", "2", "REST", "run"), 20, 4000),
        (("m", "2", "REST", "hop"), 20, 4000),
    )
    [part] = break_down(before, after)
    assert (part.model, part.entrypoint, part.requests) == ("m", "REST", 40)
    assert part.mean_s == pytest.approx(400e-6)
    assert [(each.stage, each.mean_s, each.share) for each in part.stages] == [
        (Stage.DECODE, pytest.approx(100e-6), pytest.approx(0.25)),
        (Stage.HOP, pytest.approx(100e-6), pytest.approx(0.25)),
        (Stage.RUN, pytest.approx(200e-6), pytest.approx(0.5)),
    ]


def test_what_did_not_grow_is_left_out() -> None:
    """A model that nobody asked between the looks, and other models where one is named, are not there."""
    idle, asked, other = [((name, "1", "GRPC", "run"), 5, 50) for name in ("idle", "asked", "other")]
    after = looks(idle, (asked[0], 6, 60), (other[0], 9, 90))
    assert [part.model for part in break_down(looks(idle, asked, other), after)] == ["other", "asked"]
    assert [part.model for part in break_down(looks(idle, asked, other), after, "asked")] == ["asked"]
    assert break_down({}, {}) == []


def test_what_shrank_was_counted_anew() -> None:
    """A counter that is less than before was forgotten meanwhile: all of it is new."""
    [part] = break_down(looks(((*REST, "run"), 50, 5000)), looks(((*REST, "run"), 2, 30)))
    assert (part.requests, part.mean_s) == (2, pytest.approx(15e-6))
