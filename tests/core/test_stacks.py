"""Stacks of functions, and the forms in which tools and people read them."""

from __future__ import annotations

import pytest

from serving_app.core.stacks import ProcessProfile, busiest, collapsed, speedscope, stack_line

GATEWAY = ProcessProfile("gateway", "one", 10, 2.0, {"loop;m.serve;m.read": 600, "loop;m.serve": 200})
OTHER = ProcessProfile("gateway", "two", 20, 2.0, {"loop;m.serve": 100})
REPLICA = ProcessProfile("a:m@1", "one", 30, 2.0, {"run;m.run;m.run": 100})


def test_a_stack_is_one_line() -> None:
    """What has a meaning in the form is replaced in the names of functions."""
    assert stack_line(["loop", "a;b", "c\nd"]) == "loop;a:b;c d"


def test_time_is_that_of_all_stacks() -> None:
    """The CPU time of a process is the sum of its stacks."""
    assert GATEWAY.cpu_s == pytest.approx(0.0008)


def test_the_busiest_functions_come_first() -> None:
    """Own time is that of innermost frames, total time that of stacks that have the function, once however often."""
    assert busiest([GATEWAY, OTHER, REPLICA], 3) == [
        ("m.read", 0.6, 0.6),
        ("m.serve", 0.3, 0.9),
        ("m.run", 0.1, 0.1),
    ]
    assert busiest([], 3) == []


def test_collapsed_stacks_are_added_up_by_role() -> None:
    """Processes that do the same are one tree, whose root says what they are for; each line ends in its weight."""
    assert collapsed([GATEWAY, OTHER, REPLICA]).splitlines() == [
        "a:m@1;run;m.run;m.run 100",
        "gateway;loop;m.serve 300",
        "gateway;loop;m.serve;m.read 600",
    ]


def test_speedscope_has_each_process() -> None:
    """Frames are shared by number, and the weights of each process add up to where it ends."""
    document = speedscope([GATEWAY, OTHER], "app")
    frames = [frame["name"] for frame in document["shared"]["frames"]]
    first, second = document["profiles"]
    assert [[frames[number] for number in sample] for sample in first["samples"]] == [
        ["loop", "m.serve", "m.read"],
        ["loop", "m.serve"],
    ]
    assert (first["weights"], first["endValue"], first["unit"]) == ([600, 200], 800, "microseconds")
    assert second["name"] == "gateway (process 20 on two)"
