"""Where versions are, and what is known of their size."""

from __future__ import annotations

from serving_app.core.actions import StartLoad
from serving_app.core.events import ServableAdopted, ServableGone, VersionsListed
from serving_app.core.servable import ServableId
from serving_app.serve.places import Places

ONE, TWO = ServableId("m", 1), ServableId("m", 2)


def test_a_version_is_where_it_was_loaded_from() -> None:
    """What was ordered or adopted stays where it was, though the model's base path moves; after it is gone, it is where
    it lies now."""
    places = Places()
    places.take_in(ServableAdopted(ONE, "app:m@1", {}, "/old/1"))
    places.note_load(StartLoad(TWO, "/old/2"))
    places.take_in(VersionsListed("m", {1: "/new/1", 2: "/new/2"}, sizes={1: 10}))
    assert (places.find_path(ONE), places.find_path(TWO)) == ("/old/1", "/old/2")
    assert places.loaded_from == {"m": {1: "/old/1", 2: "/old/2"}}
    places.take_in(ServableGone(ONE))
    assert places.find_path(ONE) == "/new/1"
    assert (places.find_size(ONE), places.find_size(TWO)) == (10, None)


def test_a_model_that_is_dropped_is_forgotten() -> None:
    """Nothing of its listing is left, but what is loaded is known until it is gone."""
    places = Places()
    places.take_in(VersionsListed("m", {1: "/m/1", 2: "/m/2"}, sizes={1: 10}))
    places.note_load(StartLoad(ONE, "/m/1"))
    places.keep_only({"n"})
    assert (places.find_path(ONE), places.find_path(TWO), places.find_size(ONE)) == ("/m/1", None, None)
