"""The protocol by which publishers agree on numbers, in every order in which two of them can get on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving_app.core.errors import FailedPrecondition
from serving_app.publishing.claims import SHELF, Claim, claim_number
from serving_app.publishing.place import Place
from serving_app.store.files import StoredFile
from serving_app.store.listing import MAX_VERSION
from tests.store.shared import PROCESSES

STEPS = 7
"""Calls of the store that are put in order: as many as it takes two publishers to claim a number."""


class Turns:
    """Lets two threads call a store in turns: one call each time that it is theirs, as far as the order tells."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = list(order)
        self._over: set[int] = set()
        self._changed = threading.Condition()

    def take(self, who: int, call: Callable[[], Any]) -> Any:
        """Call when it is this one's turn; the other one's turns are skipped when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._next() in (None, who))
            if self._order:
                self._order.pop(0)
            try:
                return call()
            finally:
                self._changed.notify_all()

    def end(self, who: int) -> None:
        """This one calls no more."""
        with self._changed:
            self._over.add(who)
            self._changed.notify_all()

    def _next(self) -> int | None:
        while self._order and self._order[0] in self._over:
            self._order.pop(0)
        return self._order[0] if self._order else None


class SteppedPlace(Place):
    """A store of objects by name, which one of two publishers calls in its turns."""

    def __init__(self, objects: dict[str, bytes], who: int, turns: Turns, is_local: bool) -> None:
        self.is_local = is_local
        self.base_path = "store://m"
        self._objects, self._who, self._turns = objects, who, turns

    def path(self, name: str) -> str:
        return f"{self.base_path}/{name}"

    def make_parent(self, name: str) -> None:
        """There are no directories."""

    def versions(self) -> dict[int, str]:
        return self._turns.take(self._who, lambda: {
            int(name.partition("/")[0]): name for name in self._objects if name[0].isdigit()
        })

    def files(self, name: str) -> dict[str, StoredFile]:
        return self._turns.take(self._who, lambda: {
            each.removeprefix(f"{name}/"): StoredFile(0, (), 0.0) for each in self._objects if each.startswith(name)
        })

    def read(self, name: str) -> bytes:
        return self._turns.take(self._who, lambda: self._objects[name])

    def create(self, name: str, content: bytes) -> bool:
        return self._turns.take(self._who, lambda: self._objects.setdefault(name, content) is content)

    def write(self, name: str, content: bytes) -> None:
        self._turns.take(self._who, lambda: self._objects.update({name: content}))

    def remove(self, name: str) -> None:
        self._turns.take(self._who, lambda: self._objects.pop(name, None))

    def writing(self, name: str) -> Any:
        return threading.Lock()  # a context that does nothing


def run(order: Sequence[int], is_local: bool, version: int | None) -> tuple[list[Claim | Exception], dict[str, bytes]]:
    """What two publishers get who call a store in this order, the second of them one who is done at once."""
    objects: dict[str, bytes] = {"1/saved_model.pb": b""}
    turns = Turns(order)
    got: list[Claim | Exception] = [Exception("nothing"), Exception("nothing")]

    def publish(who: int) -> None:
        place = SteppedPlace(objects, who, turns, is_local)
        try:
            got[who] = claim = claim_number(place, version)
            if who:
                place.write(f"{claim.number}/saved_model.pb", b"")
                claim.fulfil()
        except FailedPrecondition as error:
            got[who] = error
        finally:
            turns.end(who)

    threads = [threading.Thread(target=publish, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got, objects


@pytest.mark.parametrize("is_local", [True, False])
def test_no_two_get_the_same_number(is_local: bool) -> None:
    """In whatever order the calls of two publishers reach the store, they get different numbers, and what is left
    behind are the claim of the one who still writes and the last number that was published."""
    for order in itertools.product((0, 1), repeat=STEPS):
        got, objects = run(order, is_local, None)
        slow, quick = got
        assert isinstance(slow, Claim), (order, slow)
        assert isinstance(quick, Claim), (order, quick)
        assert slow.number != quick.number, order
        markers = {name for name in objects if name.startswith(SHELF)}
        assert markers == {f"{SHELF}/{slow.marker}", f"{SHELF}/{quick.number}.done"}, order


@pytest.mark.parametrize("is_local", [True, False])
def test_one_number_is_given_once(is_local: bool) -> None:
    """Of two who ask for the same number at most one gets it, in whatever order their calls reach the store; the other
    leaves nothing behind."""
    outcomes = set()
    for order in itertools.product((0, 1), repeat=STEPS):
        got, objects = run(order, is_local, 7)
        winners = [each for each in got if isinstance(each, Claim)]
        assert len(winners) <= 1, order
        outcomes.add(len(winners))
        claims = {name for name in objects if name.endswith(".claim")}
        assert claims == ({f"{SHELF}/{got[0].marker}"} if isinstance(got[0], Claim) else set()), order
    assert 1 in outcomes


def claim_many(base_path: str, count: int, told: Any) -> None:
    """Claim numbers, as one publisher after the other in a process."""
    for _ in range(count):
        told.put(claim_number(Place(base_path)).number)


def test_processes_get_numbers_of_their_own(tmp_path: Path) -> None:
    """Several processes that claim numbers on a disk at the same time never get the same one."""
    told = PROCESSES.SimpleQueue()
    publishers = [PROCESSES.Process(target=claim_many, args=(str(tmp_path / "m"), 5, told)) for _ in range(3)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    numbers = sorted(told.get() for _ in range(15))
    assert numbers == list(range(1, 16))


class AgedPlace(Place):
    """A disk on which some files have not been touched for eight days."""

    def __init__(self, base_path: str, old: Sequence[str]) -> None:
        super().__init__(base_path)
        self._old = old

    def files(self, name: str) -> dict[str, StoredFile]:
        return {
            each: replace(file, changed_at=(file.changed_at or 0) - (8 * 24 * 3600 if each in self._old else 0))
            for each, file in super().files(name).items()
        }


def test_old_markers_are_cleared_away(tmp_path: Path) -> None:
    """What a publisher left behind that died is removed a week later; what is newer stays, and so does its number."""
    half = "1.files/saved_model.pb"
    place = AgedPlace(str(tmp_path), ["1.claim", half])
    dead, busy = claim_number(place), claim_number(place)
    for claim in (dead, busy):
        staged = tmp_path / SHELF / f"{claim.number}.files" / "saved_model.pb"
        staged.parent.mkdir()
        staged.write_bytes(b"half")
    claim_number(place).fulfil()
    assert {path.name for path in (tmp_path / SHELF).iterdir()} == {"2.claim", "2.files", "3.done"}
    assert claim_number(place).number == 4


def test_above_the_highest_number_there_is_none(tmp_path: Path) -> None:
    """Where the highest version that there can be is taken, the next one is refused."""
    (tmp_path / str(MAX_VERSION)).mkdir()
    with pytest.raises(FailedPrecondition, match="above which there is no number"):
        claim_number(Place(str(tmp_path)))
