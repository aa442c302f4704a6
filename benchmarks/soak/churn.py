"""What happens to the models and to the processes: a deck of cards, shuffled by the seed, dealt one by one.

A whole deck holds every kind of card, so that a short soak has seen all of it too. For a card that cannot be played now
(there is nothing to delete) a new version comes, and the card goes to the bottom of the deck.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks.soak.asking import Complain
from benchmarks.soak.ledger import Instance, Ledger
from benchmarks.soak.loader import files_of
from benchmarks.soak.models import Model, Outage, Version
from benchmarks.soak.store import Mood, Store
from serving_app.core.errors import FailedPrecondition, ServingError
from serving_app.core.servable import ServableId

DECK = {
    "good version": 9,
    "slow upload": 2,
    "broken version": 2,
    "newest deleted": 2,
    "store fault": 2,
    "label moved": 1,
    "controller killed": 1,
    "replica killed": 1,
    "all deleted": 1,
}

SETTLE_S = 1.0
"""What a slow upload relies on: its pauses are shorter."""

_KEPT = 3
_PIECES = 12
_BACK_AGAIN_S = 180.0
_STEADY_S = 5.0


class Churn:
    """Plays cards. What takes time (an upload, a fault that is to end) goes on in a thread of its own."""

    def __init__(
        self,
        models: Sequence[Model],
        store: Store,
        ledger: Ledger,
        rng: random.Random,
        *,
        set_label: Callable[[str, int], None],
        kill_controller: Callable[[], None],
        answers: Callable[[Model], int | None],
        complain: Complain,
    ) -> None:
        self.played: Counter[str] = Counter()
        self._models = models
        self._store = store
        self._ledger = ledger
        self._rng = rng
        self._set_label = set_label
        self._kill_controller = kill_controller
        self._answers = answers
        self._complain = complain
        self._deck: list[str] = []
        self._busy: dict[str, str] = {}  # models on which something is going on in the background, and what
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    @property
    def has_seen_all(self) -> bool:
        """Whether every kind of card has been played."""
        return self.played.keys() == DECK.keys()

    def begin(self) -> None:
        """Every model gets its first version."""
        for model in self._models:
            self._store.make_directory(model.directory)
            self._upload(model, model.add(is_good=True))

    def play(self, *, kill_controllers: bool = True) -> None:
        """The next card. Without `kill_controllers` the card for that brings a version instead."""
        if not self._deck:
            self._deck = [card for card, count in DECK.items() for _ in range(count)]
            self._rng.shuffle(self._deck)
        card = self._deck.pop()
        if card == "controller killed":
            if kill_controllers:
                self._kill_controller()
            is_played = kill_controllers
        else:
            model = self._rng.choice(self._models)
            candidates = [model, *self._rng.sample(self._models, len(self._models))]
            is_played = any(self._play_on(card, candidate) for candidate in candidates)
        if not is_played:
            if card != "controller killed":
                self._deck.insert(0, card)
            card = "good version"
            model = self._rng.choice([each for each in self._models if each.name not in self._busy] or self._models)
            self._upload(model, model.add(is_good=True))
        self.played[card] += 1

    def settle(self) -> None:
        """End whatever goes on in the background, then take broken versions away, so that the newest one is good."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for model in self._models:
            self._store.set_mood(model.directory, None)
            for version in model.versions.values():
                if not version.is_good:
                    self._remove(model, version)

    # Cards.

    def _play_on(self, card: str, model: Model) -> bool:
        """Whether the card could be played on this model."""
        if model.name in self._busy:
            return False
        match card:
            case "good version":
                self._upload(model, model.add(is_good=True))
                self._prune(model)
                return True
            case "broken version":
                self._upload(model, model.add(is_good=False))
                return True
            case "slow upload":
                self._in_background(model, card, self._upload_slowly)
                return True
            case "newest deleted":
                return self._delete_newest(model)
            case "store fault":
                self._in_background(model, card, self._disturb)
                return True
            case "label moved":
                return self._move_label(model)
            case "replica killed":
                return self._kill_replica(model)
            case "all deleted":
                if model.is_labelled:
                    return False
                self._in_background(model, card, self._delete_all)
                return True
        raise ValueError(f"no card is called {card}")

    def _upload(self, model: Model, version: Version) -> None:
        """All at once; what comes last makes it whole."""
        for name, content in self._files(model, version).items():
            self._store.write(f"{model.directory}/{version.number}/{name}", content)
        version.is_whole = True

    def _upload_slowly(self, model: Model) -> None:
        """The file that names the others first, the others piece by piece, with pauses."""
        version = model.add(is_good=True)
        written = time.monotonic()
        for name, content in self._files(model, version).items():
            path = f"{model.directory}/{version.number}/{name}"
            pieces = _PIECES if name == "weights.bin" else 1
            for piece in range(1, pieces + 1):
                self._store.write(path, content[: len(content) * piece // pieces])
                now = time.monotonic()
                version.longest_pause_s = max(version.longest_pause_s, now - written)
                written = now
                self._stop.wait(self._rng.uniform(0.2, 0.5) * SETTLE_S)
        version.is_whole = True

    def _files(self, model: Model, version: Version) -> dict[str, bytes]:
        return files_of(
            ServableId(model.name, version.number), self._ledger.path, broken=not version.is_good,
            load_s=self._rng.uniform(0.0, 1.0), weight=self._rng.randrange(1 << 13, 1 << 16),
        )  # fmt: skip

    def _prune(self, model: Model) -> None:
        """Of many versions the oldest go, as whoever uploads them would have it."""
        for version in model.present()[:-_KEPT]:
            if version.number != model.label:
                self._remove(model, version)

    def _remove(self, model: Model, version: Version) -> None:
        version.is_removed = True
        self._store.remove(f"{model.directory}/{version.number}")

    def _delete_newest(self, model: Model) -> bool:
        """The newest good version, if another one is left and no label names it."""
        present = model.present()
        if len(present) < 2 or present[-1].number == model.label:
            return False
        self._remove(model, present[-1])
        return True

    def _disturb(self, model: Model) -> None:
        self._store.set_mood(model.directory, self._rng.choice(list(Mood)))
        self._stop.wait(self._rng.uniform(2.0, 15.0))
        self._store.set_mood(model.directory, None)

    def _delete_all(self, model: Model) -> None:
        """For a while the model has no version at all."""
        outage = model.begin_outage("all its versions were deleted")
        for version in list(model.versions.values()):
            self._remove(model, version)
        self._stop.wait(self._rng.uniform(2.0, 6.0))
        self._upload(model, model.add(is_good=True))
        self._wait_until_it_answers(model, outage)

    def _move_label(self, model: Model) -> bool:
        """To a version that answers, other than the one that it is set to."""
        if not model.is_labelled:
            return False
        present = {version.number for version in model.present()}
        ready = {each.servable.version for each in self._ledger.steady(model.name, _STEADY_S)} & present
        targets = sorted(ready - {model.label})
        if not targets:
            return False
        model.begin_to_set(target := self._rng.choice(targets))
        try:
            self._set_label(model.name, target)
        except FailedPrecondition:  # it went in this very moment
            model.end_setting(was_set=False)
            return False
        except ServingError as error:
            model.end_setting(was_set=False)
            self._complain(model.name, f"its label could not be set to version {target}: {error}")
            return False
        model.end_setting(was_set=True)
        return True

    def _kill_replica(self, model: Model) -> bool:
        """One replica of the version that answers. If it is the only one, requests may fail until there is another."""
        if model.is_labelled:
            return False
        version = self._answers(model)
        held = [each for each in self._ledger.steady(model.name, _STEADY_S) if each.servable.version == version]
        # What is not in the store any more cannot come back.
        if len(held) < model.replicas or version not in {each.number for each in model.present()}:
            return False
        outage = model.begin_outage("its only replica was killed") if model.replicas == 1 else None
        victim = self._rng.choice(held)
        at = time.time()
        self._ledger.kill(victim)
        with contextlib.suppress(ProcessLookupError):  # it went by itself in this very moment
            os.kill(victim.pid, signal.SIGKILL)
        self._in_background(model, "replica killed", lambda model: self._await_successor(model, victim, at, outage))
        return True

    def _await_successor(self, model: Model, victim: Instance, killed_at: float, outage: Outage | None) -> None:
        """A replica that was killed has a successor, unless another version has taken over meanwhile."""
        deadline = time.monotonic() + _BACK_AGAIN_S
        while not self._ledger.has_loaded_since(model.name, killed_at):
            if self._answers(model) not in (None, victim.servable.version):
                break
            if time.monotonic() > deadline:
                self._complain(model.name, f"no replica came in {_BACK_AGAIN_S:.0f} s for one of {victim.servable}")
                break
            time.sleep(0.2)
        if outage is not None:
            self._wait_until_it_answers(model, outage)

    def _wait_until_it_answers(self, model: Model, outage: Outage) -> None:
        deadline = time.monotonic() + _BACK_AGAIN_S
        while self._answers(model) is None:
            if time.monotonic() > deadline:
                self._complain(model.name, f"no answer {_BACK_AGAIN_S:.0f} s after this: {outage.reason}")
                break
            time.sleep(0.2)
        model.end_outage(outage)

    def _in_background(self, model: Model, what: str, work: Callable[[Model], None]) -> None:
        self._busy[model.name] = what

        def run() -> None:
            try:
                work(model)
            finally:
                del self._busy[model.name]

        thread = threading.Thread(target=run, name=f"{what}: {model.name}")
        self._threads = [each for each in self._threads if each.is_alive()]
        self._threads.append(thread)
        thread.start()
