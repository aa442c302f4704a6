"""A manager for tests that are read as little stories: events in, short words out.

Actions are written `load m@1`, `unload m@1`, and `routes m@1 m@2` for a table that names these.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving_app.core.actions import Action, PublishRoutes, StartLoad, StartUnload
from serving_app.core.errors import Code
from serving_app.core.events import (
    ConfigApplied,
    Event,
    LoadFailed,
    ModelIntent,
    RoutesAcknowledged,
    ServableGone,
    ServableLoaded,
    Tick,
    VersionsListed,
)
from serving_app.core.manager import Manager, ManagerOptions
from serving_app.core.policies import Specific
from serving_app.core.routing import RouteTable
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState, State
from serving_app.core.views import VersionView


class Scene:
    """A manager whose events and actions are easy to write down."""

    def __init__(self, *intents: ModelIntent, options: ManagerOptions | None = None, revision: int = 0) -> None:
        self.manager = Manager(options, revision)
        self.now = 0.0
        self.actions: list[Action] = []
        self.sizes: Mapping[int, int] = {}
        if intents:
            self.tell(ConfigApplied(intents), Tick())

    def tell(self, *events: Event) -> list[str]:
        self.actions = self.manager.handle(*events, now=self.now)
        return [describe(action) for action in self.actions]

    def list(self, name: str, *versions: int, root: str = "models") -> list[str]:
        paths = {number: f"/{root}/{name}/{number}" for number in versions}
        return self.tell(VersionsListed(name, paths, sizes=self.sizes))

    def loaded(self, *words: str) -> list[str]:
        return self.tell(*(ServableLoaded(servable(word), f"app {word}", {}) for word in words))

    def failed(self, word: str, message: str = "damaged") -> list[str]:
        return self.tell(LoadFailed(servable(word), Code.DATA_LOSS, message))

    def gone(self, word: str) -> list[str]:
        return self.tell(ServableGone(servable(word)))

    def acknowledge(self, reader: str) -> list[str]:
        return self.tell(RoutesAcknowledged(reader, self.manager.table.revision))

    def wait(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.tell(Tick())

    def version(self, word: str) -> VersionView:
        which = servable(word)
        return next(each for each in self.manager.snapshot().models[which.name].versions if each.servable == which)

    def state(self, word: str) -> State:
        return self.version(word).state

    def statuses(self, name: str) -> list[tuple[int, PublicState, Code, str]]:
        statuses = self.manager.table.models[name].statuses
        return [(each.version, each.state, each.code, each.message) for each in statuses]


def servable(word: str) -> ServableId:
    name, number = word.split("@")
    return ServableId(name, int(number))


def describe(action: Action) -> str:
    match action:
        case PublishRoutes(table):
            return " ".join(["routes", *named(table)])
        case StartLoad(which, attempt=attempt):
            return f"load {which}" if attempt == 1 else f"load {which} again"
        case StartUnload(which):
            return f"unload {which}"


def named(table: RouteTable) -> list[str]:
    return sorted(str(route.servable) for model in table.models.values() for route in model.routes.values())


def serving(*numbers: int, **options: object) -> Scene:
    """A scene in which these versions of m are served, and nothing else is known."""
    scene = Scene(ModelIntent("m", Specific(numbers), **options))
    scene.list("m", *numbers)
    scene.loaded(*(f"m@{number}" for number in numbers))
    return scene
