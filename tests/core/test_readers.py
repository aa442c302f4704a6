"""Which versions a reader may still name by a table that is not the newest."""

from __future__ import annotations

from serving_app.core.readers import Readers
from serving_app.core.routing import ModelRoutes, Route
from serving_app.core.servable import ServableId

ONE, TWO = ServableId("m", 1), ServableId("m", 2)


def routes(*servables: ServableId) -> ModelRoutes:
    return ModelRoutes({each.version: Route(each, f"app:{each}", {}) for each in servables})


def test_a_version_is_released_by_its_last_reader() -> None:
    """What a table left out may be named until every reader has acknowledged that table, or left."""
    readers = Readers(0)
    assert readers.release(1) is None
    readers.join("a")
    readers.join("b")
    readers.note_change("m", 2, routes(ONE), routes(TWO))
    assert (readers.may_name(ONE), readers.may_name(TWO)) == (True, False)
    readers.acknowledge("a", 2, newest=2)
    assert readers.release(2) == []
    readers.leave("b")
    assert readers.release(2) == [ONE]
    assert not readers.may_name(ONE)


def test_a_version_that_comes_back_is_not_released() -> None:
    """Back in the newest table, it is named by that."""
    readers = Readers(0)
    readers.release(1)
    readers.join("a")
    readers.note_change("m", 2, routes(ONE), None)
    readers.note_change("m", 3, None, routes(ONE))
    readers.acknowledge("a", 3, newest=3)
    assert readers.release(3) == []


def test_tables_of_an_earlier_manager_may_name_anything() -> None:
    """Until every reader has acknowledged a table of this manager, and one that was published."""
    readers = Readers(7)
    readers.join("a")
    for revision in (7, 9):
        readers.acknowledge("a", revision, newest=8)
        assert readers.release(8) == []
        assert readers.may_name(TWO)
    readers.acknowledge("stranger", 8, newest=8)
    readers.acknowledge("a", 8, newest=8)
    assert readers.acknowledged == {"a": 8}
    assert readers.release(8) is None
    assert not readers.may_name(TWO)
