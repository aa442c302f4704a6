"""Changes of the configuration in force: planned, checked, kept, put in force, in this order and one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from serving_app.config import ConfigError, ServingConfig, parse
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError, Unavailable
from serving_app.protocol import messages
from serving_app.serve.editing import Editing
from serving_app.serve.wanted import Applied, Wanted, redeploy
from tests.stepping import until

BASE = {"models": {"m": {"base_path": "/models/m", "num_cpus": 2, "labels": {"old": 1}}, "n": "/models/n"}}


class Desk:
    """An Editing, what it kept and put in force, and the versions that are ready."""

    def __init__(self, **settings: Any) -> None:
        self.kept: list[Wanted] = []
        self.enforced: list[tuple[ServingConfig, ServingConfig]] = []
        self.ready: dict[str, set[int]] = {"m": {2, 3}}
        self.full = False
        self.stuck: asyncio.Event | None = None
        self.is_keeping = False
        first = redeploy(None, Applied(1, parse({**BASE, **settings})))
        self.editing = Editing(first, self, lambda model: self.ready.get(model, set()), self._enforce)  # type: ignore[arg-type]

    async def keep(self, wanted: Wanted, *, may_lag: bool = False) -> None:
        self.is_keeping = True
        await (self.stuck.wait() if self.stuck else asyncio.sleep(0))
        if self.full:
            raise Unavailable("the disk is full")
        self.kept.append(wanted)

    async def _enforce(self, before: ServingConfig, after: ServingConfig) -> None:
        await asyncio.sleep(0)
        assert self.kept[-1].config == after  # what is in force is kept before
        self.enforced.append((before, after))

    def labels(self, model: str = "m") -> dict[str, int]:
        [found] = [each for each in self.editing.config.models if each.name == model]
        return dict(found.labels)

    def names(self) -> list[str]:
        return [model.name for model in self.editing.config.models]

    def run(self, work: Callable[[Editing], Any]) -> Any:
        return asyncio.run(work(self.editing))

    def refuses(self, error: type[ServingError], match: str, work: Callable[[Editing], Any]) -> None:
        """The change is refused, and nothing is kept, in force or different."""
        before, kept = self.editing.wanted, list(self.kept)
        with pytest.raises(error, match=match):
            self.run(work)
        assert (self.editing.wanted, self.kept, self.enforced) == (before, kept, [])


def server_config(*models: Any) -> bytes:
    config = messages.ModelServerConfig()
    config.model_config_list.SetInParent()
    for model in models:
        config.model_config_list.config.add(**{"model_platform": "tensorflow", **model})
    return bytes(config.SerializeToString())


def test_a_label_is_set_moved_and_deleted() -> None:
    """Each change is kept and in force when the call returns."""
    desk = Desk()
    desk.run(lambda editing: editing.set_label("m", "stable", 2))
    assert desk.labels() == {"old": 1, "stable": 2}
    desk.run(lambda editing: editing.set_label("m", "stable", 3))
    assert desk.labels()["stable"] == 3
    desk.run(lambda editing: editing.delete_label("m", "stable"))
    assert desk.labels() == {"old": 1}
    assert [each.edits for each in desk.kept] == [1, 2, 3]
    assert [after for _, after in desk.enforced] == [each.config for each in desk.kept]


UNAVAILABLE = (
    r"Request to assign label to version 9 of model m, which is not currently available for inference"
)


def test_a_label_needs_a_version_that_is_available() -> None:
    """TensorFlow Serving's rule and words hold at run time; a label that dangles already stands in nobody's way."""
    desk = Desk()
    desk.refuses(FailedPrecondition, UNAVAILABLE, lambda editing: editing.set_label("m", "stable", 9))
    desk.run(lambda editing: editing.set_label("m", "stable", 3))
    assert desk.labels() == {"old": 1, "stable": 3}


def test_a_new_label_may_wait_for_its_version_if_that_is_allowed() -> None:
    """With the option a label that is new may name a version to come; one that moves may not."""
    desk = Desk(allow_version_labels_for_unavailable_models=True)
    desk.run(lambda editing: editing.set_label("m", "next", 9))
    assert desk.labels()["next"] == 9
    desk.enforced.clear()
    desk.refuses(FailedPrecondition, UNAVAILABLE, lambda editing: editing.set_label("m", "old", 9))


def test_what_is_unknown_is_named() -> None:
    """A model or label that does not exist is NOT_FOUND."""
    desk = Desk()
    desk.refuses(NotFound, "nope", lambda editing: editing.set_label("nope", "stable", 1))
    desk.refuses(NotFound, "nope", lambda editing: editing.delete_label("m", "nope"))


def test_a_change_that_cannot_be_kept_is_not_made() -> None:
    """What would be lost at the next restart is refused now."""
    desk = Desk()
    desk.full = True
    told = "Nothing is changed, because it could not be kept: the disk is full"
    desk.refuses(Unavailable, told, lambda editing: editing.set_label("m", "stable", 3))


def test_a_plan_is_shown_and_not_carried_out() -> None:
    """A dry run tells what would change, and changes nothing."""
    desk = Desk()
    text = "models: {m: {base_path: /models/m, num_cpus: 2, replicas: 2}}"
    plan = desk.run(lambda editing: editing.apply(text, "f.yaml", True))
    assert "replicas" in str(plan)
    assert not desk.kept
    done = desk.run(lambda editing: editing.apply(text, "f.yaml", False))
    assert done == plan
    assert desk.names() == ["m"]
    assert desk.run(lambda editing: editing.apply(text, "f.yaml", False)).is_empty
    assert len(desk.kept) == 1


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("models: {m: {base_path: relative}}", ConfigError, "absolute path or URI"),
        ("models: [", ConfigError, "no valid YAML"),
        ("models: {m: /models/m}\ngateway: {rest_port: 1}", FailedPrecondition, "rest_port"),
        ("model_config_list { config { name: 'm' base_path: '/m'", ConfigError, "f.yaml"),
        ("models: {m: {base_path: /models/m, platform: p:P}}", InvalidArgument, "Illegal to change a model's platform"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_cannot_be_applied_changes_nothing(
    text: str, error: type[ServingError], match: str, dry_run: bool
) -> None:
    """A text that is wrong, torn, or asks for what cannot change at run time is refused as a whole, also if dry."""
    Desk().refuses(error, match, lambda editing: editing.apply(text, "f.yaml", dry_run))


def test_a_reload_replaces_the_models() -> None:
    """Models that are listed keep the settings that the request cannot express, others go, new ones are named."""
    desk = Desk()
    new = desk.run(
        lambda editing: editing.reload(
            server_config(
                {"name": "m", "base_path": "/models/m", "version_labels": {"stable": 3}},
                {"name": "o", "base_path": "/models/o"},
            )
        )
    )
    assert new == {"o"}
    assert desk.names() == ["m", "o"]
    assert desk.labels() == {"stable": 3}
    assert desk.editing.config.models[0].num_cpus == 2


def test_a_reload_is_checked_as_a_whole() -> None:
    """One label that is wrong keeps the whole request from having any effect."""
    config = server_config(
        {"name": "o", "base_path": "/models/o"},
        {"name": "m", "base_path": "/models/m", "version_labels": {"stable": 9}},
    )
    Desk().refuses(FailedPrecondition, UNAVAILABLE, lambda editing: editing.reload(config))


def test_labels_in_a_file_may_wait_at_the_first_time() -> None:
    """The file of a new app counts as deployed; what is changed in it later is held to the rule."""
    desk = Desk(models={}, model_config_file="/models.config")
    text = "models: {m: {base_path: /models/m, labels: {%s: 9}}}"
    desk.run(lambda editing: editing.apply_file(text % "stable", "/models.config", "1"))
    assert (desk.labels(), desk.editing.wanted.file_digest) == ({"stable": 9}, "1")
    desk.enforced.clear()
    desk.refuses(
        FailedPrecondition, UNAVAILABLE, lambda editing: editing.apply_file(text % "canary", "/models.config", "2")
    )


def test_a_file_that_says_the_same_in_other_words_is_noted() -> None:
    """It changes nothing, and is not read as news again after a restart."""
    desk = Desk(models={}, model_config_file="/models.config")
    for digest in ("1", "2"):
        text = f"# {digest}\nmodels: {{m: /models/m}}"
        desk.run(lambda editing, text=text, digest=digest: editing.apply_file(text, "/models.config", digest))
    assert [each.file_digest for each in desk.kept] == ["1", "2"]


def test_changes_wait_for_one_another() -> None:
    """Of many changes at once none is lost."""
    desk = Desk()

    async def many(editing: Editing) -> None:
        await asyncio.gather(*(editing.set_label("m", f"label{number}", 3) for number in range(20)))

    desk.run(many)
    assert desk.labels() == {"old": 1, **{f"label{number}": 3 for number in range(20)}}
    assert [each.edits for each in desk.kept] == list(range(1, 21))


def test_a_new_deployment_is_rebased() -> None:
    """What was changed at run time stays where the deployed entry did not change; older deployments say nothing."""
    desk = Desk()
    desk.run(lambda editing: editing.set_label("m", "stable", 3))
    changed = parse({"models": {**BASE["models"], "n": "/elsewhere/n"}})
    desk.run(lambda editing: editing.deploy(Applied(2, changed)))
    assert desk.labels() == {"old": 1, "stable": 3}
    assert [model.base_path for model in desk.editing.config.models] == ["/models/m", "/elsewhere/n"]
    desk.run(lambda editing: editing.deploy(Applied(1, parse({}))))
    assert desk.names() == ["m", "n"]


def test_a_gateway_that_starts_again_waits_for_no_change() -> None:
    """What it was deployed with is known; a change that hangs at the state's store does not keep it from serving."""
    desk = Desk()

    async def scenario() -> None:
        desk.stuck = asyncio.Event()
        change = asyncio.create_task(desk.editing.set_label("m", "stable", 3))
        await until(lambda: desk.is_keeping)
        await asyncio.wait_for(desk.editing.deploy(Applied(1, parse(BASE))), 10)
        desk.stuck.set()
        await change

    asyncio.run(scenario())
    assert desk.labels()["stable"] == 3


def test_a_reload_tells_what_is_new_when_its_turn_comes() -> None:
    """A model that a change before it took away is new again, though it was there when the request came."""
    desk = Desk()

    async def scenario() -> None:
        away = desk.editing.apply("models: {m: {base_path: /models/m}}", "f.yaml", False)
        back = desk.editing.reload(server_config({"name": "n", "base_path": "/models/n"}))
        assert (await asyncio.gather(away, back))[1] == {"n"}

    asyncio.run(scenario())


def test_what_changes_nothing_is_not_kept() -> None:
    """Also where a model_config_file has been applied before."""
    desk = Desk(models={}, model_config_file="/models.config")
    text = "models: {m: /models/m}"
    desk.run(lambda editing: editing.apply_file(text, "/models.config", "1"))
    assert desk.run(lambda editing: editing.apply(text, "f.yaml", False)).is_empty
    assert len(desk.kept) == 1


def test_traffic_is_kept_and_in_force() -> None:
    """Requests are shared among versions that are ready, and a version that is not may be told of with the weight 0."""
    desk = Desk()

    async def share(editing: Editing) -> None:
        await editing.set_traffic("m", "default", {"weights": {2: 100, 9: 0}})
        await editing.set_traffic("m", "default", {"weights": {2: 60, 3: 40}})
        await editing.delete_traffic("m", "default")

    desk.run(share)
    shared = [dict(after.models[0].traffic) for _, after in desk.enforced]
    assert [{name: dict(each.weights) for name, each in traffic.items()} for traffic in shared] == [
        {"default": {2: 100.0, 9: 0.0}}, {"default": {2: 60.0, 3: 40.0}}, {},
    ]


@pytest.mark.parametrize(
    ("target", "traffic", "error", "match"),
    [
        ("default", {"weights": {2: 90, 9: 10}}, FailedPrecondition, "version 9 of model m is not ready"),
        ("default", {"weights": {2: 90}}, ConfigError, "add up to 90"),
    ],
)
def test_traffic_that_is_refused(target: str, traffic: Any, error: type[ServingError], match: str) -> None:
    """It changes nothing."""
    Desk().refuses(error, match, lambda editing: editing.set_traffic("m", target, traffic))
