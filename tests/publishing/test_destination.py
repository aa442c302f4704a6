"""Where a version goes, by the configuration in force and what the caller says."""

from __future__ import annotations

import os
from typing import Any

import pytest

from serving_app.config import ConfigError, ServingConfig, parse
from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving_app.publishing.destination import check_prospects, find_destination, unserved

CONFIG = parse(
    {
        "stores": {"s3": {"key": "k", "secret": "s", "endpoint_url": "http://x"}},
        "models": {
            "disk": {"base_path": "/models/disk", "version_policy": {"latest": 2}},
            "bucket": {
                "base_path": "s3://b/bucket", "storage_options": {"key": "mine"}, "done_marker": "DONE",
                "prefer_tflite": True, "tags": ["serve", "gpu"], "version_policy": {"specific": [3, 5]},
            },
            "once": {"base_path": "/models/once", "poll_interval_s": 0, "version_policy": "all"},
            "every": {"base_path": "/models/every", "version_policy": "all"},
        },
    }
)


def test_a_model_is_found_with_all_that_it_wants() -> None:
    """The name is enough: base path, credentials and what makes a version finished stand in the configuration."""
    found = find_destination(CONFIG, "bucket")
    assert found.base_path == "s3://b/bucket"
    assert found.storage_options == {"key": "mine", "secret": "s", "endpoint_url": "http://x"}
    assert (found.done_marker, found.prefer_tflite, found.tags) == ("DONE", True, ("serve", "gpu"))
    assert find_destination(CONFIG, "bucket", storage_options={"key": "given"}).storage_options["key"] == "given"
    assert find_destination(CONFIG, "disk").storage_options == {}


@pytest.mark.parametrize("base_path", ["/models/disk", "/models/disk/", "file:///models/disk", "/models/./disk"])
def test_one_directory_has_many_names(base_path: str) -> None:
    """A base path that is given beside the name may be written otherwise."""
    assert find_destination(CONFIG, "disk", base_path).base_path == "/models/disk"


@pytest.mark.parametrize(("name", "base_path"), [("disk", "/models/other"), ("bucket", "s3://b/other")])
def test_another_base_path_is_refused(name: str, base_path: str) -> None:
    """A version that nobody would look for is not written by the model's name."""
    with pytest.raises(InvalidArgument, match=f"model {name} is served from .*, not from {base_path}; leave"):
        find_destination(CONFIG, name, base_path)


def test_a_model_that_is_not_served_is_added_only_if_asked() -> None:
    """An unknown name is an error that tells the known ones, unless the model is to be added, with its settings."""
    with pytest.raises(NotFound, match=r"has no model new \(it has: bucket, disk, every, once\); give add=True"):
        find_destination(CONFIG, "new", "/models/new")
    with pytest.raises(NotFound, match=r"it has: none"):
        find_destination(ServingConfig(), "new")
    with pytest.raises(InvalidArgument, match="say by base_path where"):
        find_destination(CONFIG, "new", add=True)
    added = find_destination(CONFIG, "new", "s3://b/new", {"key": "x"}, {"done_marker": "OK"})
    assert added.new_model == {
        "name": "new", "base_path": "s3://b/new", "done_marker": "OK", "storage_options": {"key": "x"}
    }
    assert (added.done_marker, added.storage_options["key"], added.storage_options["secret"]) == ("OK", "x", "s")
    assert find_destination(CONFIG, "disk", add=True).new_model is None  # it is there already


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"base_path": "/x"}, InvalidArgument, "arguments of their own"),
        ({"polices": "all"}, ConfigError, "polices"),
        ({"placement": "colocated", "replicas": 2}, ConfigError, "is colocated and has replicas"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    """What a configuration would not take is no setting of a new model either."""
    with pytest.raises(error, match=words):
        find_destination(CONFIG, "new", "/models/new", None, settings)


def test_a_relative_path_is_the_callers() -> None:
    """A base path alone is taken from the current directory."""
    assert unserved("models/m").base_path == os.path.join(os.getcwd(), "models/m")
    assert unserved("s3://b/m", {"key": "k"}, "DONE").storage_options == {"key": "k"}


@pytest.mark.parametrize(
    ("name", "number", "others"),
    [("disk", 3, {1, 2}), ("disk", 2, {1, 3}), ("bucket", 5, {6}), ("every", 1, {2, 3}), ("new", 1, set())],
)
def test_what_the_policy_wants_is_served(name: str, number: int, others: set[int]) -> None:
    """A version that the policy picks among those that are there has a prospect of being served."""
    check_prospects(CONFIG, name, number, frozenset(others))


@pytest.mark.parametrize(
    ("name", "number", "others", "words"),
    [
        ("disk", 1, {2, 3}, "policy wants the latest 2 versions; take a higher number"),
        ("bucket", 4, {3, 5}, "policy wants versions 3, 5; add 4 to the policy"),
        ("once", 4, set(), "is looked at only once .poll_interval_s is 0."),
    ],
)
def test_what_would_not_be_served_is_told(name: str, number: int, others: set[int], words: str) -> None:
    """Nobody waits for a version that the model's settings keep from being served."""
    with pytest.raises(FailedPrecondition, match=words):
        check_prospects(CONFIG, name, number, frozenset(others))
