"""Names of applications: made from versions, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving_app.core.names import controller_name, parse_servable_app, servable_app
from serving_app.core.servable import ServableId

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(app=TEXT, other=TEXT, model=TEXT, version=st.integers(0, 2**63 - 1))
def test_names_are_read_back(app: str, other: str, model: str, version: int) -> None:
    """Whatever apps and models are called, a version's name leads back to it, and to no other serving app."""
    servable = ServableId(model, version)
    name = servable_app(app, servable)
    assert parse_servable_app(app, name) == servable
    assert other == app or parse_servable_app(other, name) is None
    assert not set("#/?%\\") & set(name.replace("%", ""))


@pytest.mark.parametrize(
    ("app", "servable", "right"),
    [
        ("default", ServableId("half_plus_two", 1), "default:half_plus_two@1"),
        ("default", ServableId("a b", 0), "default:a b@0"),
        ("a:b", ServableId("c", 2), "a%3Ab:c@2"),
        ("a", ServableId("b:c", 2), "a:b%3Ac@2"),
        ("a", ServableId("b@1", 2), "a:b%401@2"),
        ("a", ServableId("b#c/d", 2), "a:b%23c%2Fd@2"),
        ("a", ServableId("%41", 2), "a:%2541@2"),
    ],
)
def test_names_can_be_read_by_people(app: str, servable: ServableId, right: str) -> None:
    """Usual names stay as they are; what would be mistaken for something else is percent-encoded."""
    assert servable_app(app, servable) == right


@pytest.mark.parametrize(
    "name",
    [
        "",
        "default",
        "default:",
        "default:m",
        "default:m@",
        "default:m@x",
        "default:m@-1",
        "default:m@+1",
        "default:m@ 1",
        "default:m@01",
        "default:m@²",
        "default:m@١",
        "default:m@" + "9" * 5000,
        "default:m:n@1",
        "default:m/n@1",
        "default2:m@1",
        "m@1",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    """An application that someone else deployed, however it is called, is not taken for a version of ours."""
    assert parse_servable_app("default", name) is None


def test_each_serving_app_has_its_controller() -> None:
    """Two serving apps on one cluster never share a controller."""
    assert controller_name("a") != controller_name("b")
