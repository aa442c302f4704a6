"""Options of stores: whatever is accepted can be kept as text and comes back the same."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ConfigError, parse
from serving_app.config.yaml_file import parse_yaml


def with_options(options: Any) -> dict[str, Any]:
    return {"models": {"m": {"base_path": "/m", "storage_options": options}}, "stores": {"s3": options}}


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True, "retries": 3, "timeout": 1.5, "key": None, "config": {"verify": False, "x": [1]}},
        {"hosts": ("a", ("b", 2))},
        {"text": "2020-01-02", "other": "ü\n\x00"},
    ],
)
def test_what_is_accepted_is_kept_as_it_is(options: dict[str, Any]) -> None:
    """A controller that restarts finds the very configuration that was in force."""
    config = parse(with_options(options))
    assert parse(json.loads(json.dumps(config.model_dump(mode="json")))) == config


LOOP: dict[str, Any] = {}
LOOP["again"] = LOOP


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime.date(2020, 1, 2), "client_kwargs.x is of type date"),
        (b"\x80hunter2", "client_kwargs.x is of type bytes"),
        ({"a", "b"}, "client_kwargs.x is of type set"),
        (Path("/hunter2"), "client_kwargs.x is of type PosixPath"),
        (object(), "client_kwargs.x is of type object"),
        ([1, {2: "hunter2"}], r"client_kwargs.x\[1\] has a name of type int; put it in quotes"),
        (math.inf, "client_kwargs.x is no finite number"),
        (math.nan, "client_kwargs.x is no finite number"),
        (LOOP, "levels deep, or contains itself"),
    ],
)
def test_what_could_not_be_kept_is_refused(value: Any, message: str) -> None:
    """The place is named, in both settings, and no value is shown."""
    with pytest.raises(ConfigError, match=message) as caught:
        parse(with_options({"client_kwargs": {"x": value}}))
    assert "2 problems" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "2020-13-45",  # looks like a date
        "9" * 5000,  # more digits than Python reads
        "[" * 2000 + "]" * 2000,
        '"\\uD800"',
        "&a {x: *a}",
        "{secret: hunter2, x: ]",
    ],
    ids=["date", "number", "depth", "surrogate", "loop", "torn"],
)
def test_a_text_that_yaml_stumbles_over_is_a_wrong_configuration(value: str) -> None:
    """No text makes the reader fail in another way, and none is quoted: it may hold a credential."""
    with pytest.raises(ConfigError, match="the text") as caught:
        parse_yaml(f"models: {{m: {{base_path: /m, storage_options: {{x: {value}}}}}}}", "the text")
    assert "hunter2" not in str(caught.value)
