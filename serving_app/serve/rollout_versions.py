"""The versions that rollouts move requests between: which are ready, which will not be, what speaks against one."""

from __future__ import annotations

from collections.abc import Callable

from serving_app.core.errors import FailedPrecondition, NotFound
from serving_app.core.rollout import Rollout
from serving_app.core.rollout_orders import UPWARD
from serving_app.core.servable import ServableId
from serving_app.core.states import State
from serving_app.core.views import ModelView, VersionView


class RolloutVersions:
    """`look` gives what is known of a model, `is_found` whether a version lies where versions of its model do."""

    def __init__(self, look: Callable[[str], ModelView | None], is_found: Callable[[ServableId], bool]) -> None:
        self._look = look
        self._is_found = is_found

    def ready(self, model: str) -> list[int]:
        """Those that can be asked."""
        view = self._look(model)
        return [each.servable.version for each in view.versions if each.state is State.READY] if view else []

    def latest(self, model: str) -> int | None:
        """The newest of those."""
        return max(self.ready(model), default=None)

    def find_failure(self, servable: ServableId) -> str | None:
        """Why a version will not be ready; None if that is not known of it."""
        version = self._find(servable)
        if version is None or version.state not in (State.FAILED, State.UNFIT):
            return None
        return str(version.error) if version.error else f"it is {version.state.value}"

    def may_appear(self, servable: ServableId) -> bool:
        """Whether a version is not there, of a model that is."""
        return self._look(servable.name) is not None and not self._is_there(servable)

    def check_candidate(self, target: str, from_version: int, candidate: ServableId) -> None:
        """Raise the error of a rollout to a version that has the requests already, is not there, or has failed."""
        if candidate.version == from_version:
            raise FailedPrecondition(
                f"Version {candidate.version} gets the requests for {target} of model {candidate.name} already"
            )
        if failure := self.find_failure(candidate):
            raise FailedPrecondition(
                f"Version {candidate.version} of model {candidate.name} cannot be served: {failure}"
            )
        if not self._is_there(candidate):
            raise NotFound(
                f"There is no version {candidate.version} of model {candidate.name} under its base path; bring it first"
            )

    def check_order(self, rollout: Rollout, action: str) -> None:
        """Nobody sends requests by hand where nobody is, and back to the version before only if that is there."""
        ready = self.ready(rollout.model)
        if action in UPWARD and rollout.to_version not in ready:
            raise FailedPrecondition(
                f"version {rollout.to_version} of model {rollout.model} is not ready, so it can get no more requests; "
                f"wait until it is, or abort rollout {rollout.id}"
            )
        if action == "undo" and rollout.from_version not in ready:
            raise FailedPrecondition(
                f"version {rollout.from_version} of model {rollout.model} is not ready, so no requests can go back to "
                "it; start a rollout to one that is"
            )

    def _is_there(self, servable: ServableId) -> bool:
        version = self._find(servable)
        return (version is not None and version.state is not State.ENDED) or self._is_found(servable)

    def _find(self, servable: ServableId) -> VersionView | None:
        view = self._look(servable.name)
        versions = view.versions if view is not None else ()
        return next((each for each in versions if each.servable == servable), None)
