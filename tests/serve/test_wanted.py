"""What is wanted: how it grows from deployment to deployment, and how it is written down."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from serving_app.config import ServingConfig, parse, set_label
from serving_app.core.errors import DataLoss
from serving_app.serve.wanted import Applied, Wanted, decode_wanted, encode_wanted, redeploy


def config(**models: Any) -> ServingConfig:
    return parse({"models": {name: settings or f"/models/{name}" for name, settings in models.items()}})


FIRST = redeploy(None, Applied(10, config(m={}, n={})))
EDITED = FIRST.edit(set_label(FIRST.config, "m", "stable", 3))


def test_a_first_deployment_is_in_force_as_it_is() -> None:
    """Where nothing was wanted before, what is deployed is in force."""
    deployed = config(m={}, n={})
    assert redeploy(None, Applied(10, deployed)) == Wanted(deployed, 10, deployed)


@pytest.mark.parametrize("generation", [9, 10])
def test_an_older_deployment_changes_nothing(generation: int) -> None:
    """A gateway that was built earlier may introduce itself later; the newest deployment stays."""
    assert redeploy(EDITED, Applied(generation, config(other={}))) is EDITED


def test_the_same_deployment_again_keeps_what_was_changed() -> None:
    """Deploying what was deployed before takes no label away that was set since."""
    again = redeploy(EDITED, Applied(11, FIRST.base))
    assert (again.config, again.generation) == (EDITED.config, 11)
    assert again.edits > EDITED.edits


def test_a_changed_entry_takes_the_place_of_what_was_changed() -> None:
    """A model whose entry differs from the one deployed before is taken as it is now, others stay as changed."""
    changed = {"base_path": "/models/m", "labels": {"canary": 4}}
    assert redeploy(EDITED, Applied(11, config(m=changed, n={}))).config == config(m=changed, n={})
    others = redeploy(EDITED, Applied(11, config(m={}, n="/elsewhere/n", o={}))).config
    assert others == set_label(config(m={}, n="/elsewhere/n", o={}), "m", "stable", 3)


@pytest.mark.parametrize(("file", "digest"), [("/a", "d"), ("/b", None), (None, None)])
def test_another_file_is_read_anew(file: str | None, digest: str | None) -> None:
    """What was applied of a model_config_file is known as long as the same file is named."""
    before = Wanted(ServingConfig(model_config_file="/a"), 1, ServingConfig(model_config_file="/a"), 1, "d")
    assert redeploy(before, Applied(2, ServingConfig(model_config_file=file))).file_digest == digest


@pytest.mark.parametrize("wanted", [FIRST, EDITED, replace(EDITED, file_digest="abc")])
def test_what_is_written_is_read_back(wanted: Wanted) -> None:
    """The text holds everything."""
    assert decode_wanted(encode_wanted("app", wanted)) == wanted


def test_credentials_are_kept() -> None:
    """A model that was added at run time can be reached after a restart: its options are written as they are."""
    secret = config(m={"base_path": "s3://b/m", "storage_options": {"secret": "hidden"}})
    assert decode_wanted(encode_wanted("app", Wanted(secret, 1, secret))).config == secret


WRITTEN = encode_wanted("app", EDITED)


@pytest.mark.parametrize(
    ("damaged", "complaint"),
    [
        (b"", "no JSON"),
        (WRITTEN[: len(WRITTEN) // 2], "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "not of format 1"),
        (WRITTEN.replace(b'"format": 1', b'"format": 2'), "not of format 1"),
        (WRITTEN.replace(b'"stable": 3', b'"stable": 4'), "checksum"),
        (WRITTEN.replace(b'"edits": 1', b'"edits": 2'), "checksum"),
    ],
)
def test_damage_is_noticed(damaged: bytes, complaint: str) -> None:
    """A text that is torn, of another format or changed by hand is refused, with what is wrong with it."""
    assert damaged != WRITTEN
    with pytest.raises(DataLoss, match=complaint):
        decode_wanted(damaged)


def test_a_configuration_that_is_not_understood_is_refused() -> None:
    """A text that a newer version wrote, with settings unknown here, is refused by naming them."""
    unknown = Wanted(FIRST.base, 1, FIRST.config.model_copy(update={"poll_interval_s": -1.0}))
    with pytest.raises(DataLoss, match="poll_interval_s"):
        decode_wanted(encode_wanted("app", unknown))


def test_people_can_read_it() -> None:
    """The text is JSON, and says which app it is of."""
    content = json.loads(WRITTEN)
    assert (content["app"], content["config"]["models"][0]["labels"]) == ("app", {"stable": 3})
