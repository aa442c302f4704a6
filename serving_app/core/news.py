"""What is worth telling people, in sentences of one line.

Pure functions: what was and what is go in, and out come sentences, each with the version that it is about, or None if
it is about the model as a whole. Nothing here takes part in a decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from serving_app.core.events import ModelIntent
from serving_app.core.policies import AvailabilityPreserving, describe_policy
from serving_app.core.states import Cause, State
from serving_app.core.traffic import Traffic

News = Iterator[tuple[int | None, str]]

_BECAUSE: Mapping[Cause, str] = {
    Cause.LOADED: "ready",
    Cause.LOAD_FAILED: "failed to load",
    Cause.FOUND_LOADING: "found loading and taken over",
    Cause.FOUND_SERVING: "found ready and taken over",
    Cause.ASPIRE: "wanted again",
    Cause.LOAD: "loading",
    Cause.REJECT: "not loaded",
    Cause.ADMIT: "there is a node now that could hold it; to be loaded",
    Cause.DRAIN: "takes no new requests; unloaded when no request is on its way to it any more",
    Cause.KEEP: "wanted again before it was unloaded; takes requests again",
    Cause.UNLOAD: "unloading",
    Cause.END: "given up, because it is not wanted any more",
}

_FROM: Mapping[tuple[State, Cause], str] = {
    (State.LOADING, Cause.UNLOAD): "load called off, because it is not wanted any more",
    (State.READY, Cause.GONE): "gone without having been unloaded",
    (State.DRAINING, Cause.GONE): "gone before it was unloaded",
    (State.UNLOADING, Cause.GONE): "unloaded",
    (State.CLEARING, Cause.GONE): "what was left of the failed load is removed",
}


def describe_move(before: State, cause: Cause) -> str:
    """What it means for a version to leave this state for this cause."""
    return _FROM.get((before, cause)) or _BECAUSE[cause]


def compare_intents(before: ModelIntent | None, after: ModelIntent | None) -> News:
    """What an edit of the configuration did to a model; None: it is not in the configuration."""
    if before and after:
        yield from ((None, sentence) for sentence in _find_changes(before, after))
    elif after:
        yield None, f"configured, to serve {describe_policy(after.version_policy)}"
    elif before:
        yield None, "taken out of the configuration; its versions go"
    yield from _compare_labels(before.labels if before else {}, after.labels if after else {})
    yield from _compare_traffic(before.traffic if before else {}, after.traffic if after else {})


def _find_changes(before: ModelIntent, after: ModelIntent) -> Iterator[str]:
    if before.version_policy != after.version_policy:
        old, new = describe_policy(before.version_policy), describe_policy(after.version_policy)
        yield f"is to serve {new} now, was {old}"
    if before.aspired_policy != after.aspired_policy:
        is_first = isinstance(after.aspired_policy, AvailabilityPreserving)
        yield f"new versions are loaded {'before' if is_first else 'after'} the old ones go from now on"
    if before.demand != after.demand:
        yield f"each replica is to reserve {after.demand} now, was {before.demand}"
    if before.memory_factor != after.memory_factor:
        yield (
            f"memory is estimated as {after.memory_factor:g} times the size of the files now, was "
            f"{before.memory_factor:g} times"
        )


def _compare_labels(before: Mapping[str, int], after: Mapping[str, int]) -> News:
    for label in sorted(before.keys() | after.keys()):
        if label not in after:
            yield before[label], f"label {label} is taken from this version"
        elif label not in before:
            yield after[label], f"label {label} is given to this version"
        elif before[label] != after[label]:
            yield after[label], f"label {label} moves to this version from version {before[label]}"


def _compare_traffic(before: Mapping[str, Traffic], after: Mapping[str, Traffic]) -> News:
    for target in sorted(before.keys() | after.keys()):
        requests = f"requests by label {target}" if target else "requests that name no version"
        if target not in after:
            yield None, f"{requests} are not shared among versions any more"
        elif before.get(target) != after[target]:
            yield None, f"{requests} are shared now: {after[target]}"


def compare_active_labels(before: Mapping[str, int], after: Mapping[str, int]) -> News:
    """Which labels begin or cease to lead to a version that answers, of those that were not moved or taken."""
    for label, number in after.items():
        if before.get(label) != number:
            yield number, f"label {label} is active: requests by it get this version"
    for label, number in before.items():
        if label not in after:
            yield (
                number,
                f"label {label} leads to this version, which does not answer any more; requests by it get NOT_FOUND "
                "until the version is ready again or the label moves",
            )


def compare_waiting(
    before: Mapping[int, str], after: Mapping[int, str], finished: Collection[int], loaded: Collection[int]
) -> News:
    """Which versions are found unfinished, and what became of those that were."""
    for number in sorted(after.keys() - before.keys()):
        is_loaded = number in loaded
        sentence = "its files look unfinished; what is loaded stays" if is_loaded else "found, and not finished yet"
        yield number, f"{sentence}: {after[number]}"
    for number in sorted(before.keys() - after.keys()):
        yield number, "finished" if number in finished else "gone before it was finished"
