"""What is remembered of what has happened."""

from __future__ import annotations

import pickle

import pytest

from serving_app.core.history import Happening, History


def happened(at: float, model: str = "m", version: int | None = 1) -> Happening:
    return Happening(at, model, version, f"what happened at {at:g}")


def times(happenings: tuple[Happening, ...]) -> list[float]:
    return [each.at for each in happenings]


def test_find() -> None:
    """Happenings are found by model and version, the newest of them, newest last."""
    history = History()
    history.add(happened(1), happened(2, "n"), happened(2), happened(3, "n", 2), happened(3, version=None))
    assert times(history.find()) == [1, 2, 2, 3, 3]
    assert [each.model for each in history.find()] == ["m", "n", "m", "n", "m"]
    assert times(history.find("m")) == [1, 2, 3]
    assert times(history.find("m", 1)) == [1, 2]
    assert [each.model for each in history.find(version=2)] == ["n"]
    assert [str(each) for each in history.find(limit=2)] == [
        "n@2: what happened at 3",
        "m: what happened at 3",
    ]
    assert history.find("other") == history.find("m", 9) == history.find(limit=0) == ()


def test_newest_of_a_model_are_kept() -> None:
    """A busy model pushes out only what happened to itself."""
    history = History(per_model=2, in_all=10)
    history.add(happened(0, "quiet"), *(happened(at) for at in range(5)))
    assert times(history.find("m")) == [3, 4]
    assert times(history.find("quiet")) == [0]
    assert len(history) == 3


def test_quiet_models_are_forgotten() -> None:
    """When there is too much, the model to which nothing happened for the longest time goes as a whole."""
    history = History(per_model=2, in_all=3)
    history.add(happened(0, "a"), happened(1, "b"), happened(2, "a"), happened(3, "c"))
    assert times(history.find("a")) == [0, 2]
    assert history.find("b") == ()
    history.add(happened(4, "c"))
    assert (history.find("a"), times(history.find("c")), len(history)) == ((), [3, 4], 2)
    assert repr(history) == "<History of 1 models: 2 happenings of 5>"


def test_histories_travel() -> None:
    """A history can be written down and read back, and goes on."""
    history = History(per_model=2, in_all=4)
    history.add(happened(1), happened(2))
    read = pickle.loads(pickle.dumps(history))
    read.add(happened(3))
    assert times(read.find()) == [2, 3]


@pytest.mark.parametrize(("per_model", "in_all"), [(0, 1), (2, 1)])
def test_bounds_are_checked(per_model: int, in_all: int) -> None:
    """Bounds that make no sense are refused by name."""
    with pytest.raises(ValueError, match=f"per_model is {per_model} and in_all is {in_all}"):
        History(per_model, in_all)
