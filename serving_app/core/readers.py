"""Who follows the route tables, and which versions somebody may still name by an older one."""

from __future__ import annotations

from serving_app.core.routing import ModelRoutes
from serving_app.core.servable import ServableId


class Readers:
    """The readers of one manager's tables. `revision` is the newest that an earlier manager may have published."""

    def __init__(self, revision: int) -> None:
        self.acknowledged: dict[str, int] = {}
        """The newest revision that each reader acknowledged; -1 before it has any."""
        # What is not in the newest table, but may be in one that a reader has: the first revision without it.
        self._withdrawn: dict[ServableId, int] = {}
        # Revisions up to this one are of an earlier manager: nobody here knows what those tables name.
        self._inherited_revision = revision
        self._are_inherited_tables_in_use = True

    def join(self, reader: str) -> None:
        """This reader is there, if it was not before."""
        self.acknowledged.setdefault(reader, -1)

    def leave(self, reader: str) -> None:
        """This reader names nothing any more."""
        self.acknowledged.pop(reader, None)

    def acknowledge(self, reader: str, revision: int, newest: int) -> None:
        """The reader names nothing by tables before this one. From a stranger, or of a table that was not published
        yet, that says nothing."""
        known = self.acknowledged.get(reader)
        if known is not None and known < revision <= newest:
            self.acknowledged[reader] = revision

    def note_change(self, name: str, revision: int, old: ModelRoutes | None, new: ModelRoutes | None) -> None:
        """From this revision on the table has these routes for a model, in place of the old ones."""
        for number in old.routes if old else ():
            self._withdrawn[ServableId(name, number)] = revision
        for number in new.routes if new else ():
            self._withdrawn.pop(ServableId(name, number), None)

    def may_name(self, servable: ServableId) -> bool:
        """Whether somebody may have this version in a table that is not the newest."""
        return self._are_inherited_tables_in_use or servable in self._withdrawn

    def release(self, newest: int) -> list[ServableId] | None:
        """The versions that nobody can name any more, and somebody could at the last call; None if that is so of
        everything that earlier managers published."""
        if not self._withdrawn and not self._are_inherited_tables_in_use:
            return []
        oldest = min(self.acknowledged.values(), default=newest)
        released = [servable for servable, revision in self._withdrawn.items() if revision <= oldest]
        for servable in released:
            del self._withdrawn[servable]
        if self._are_inherited_tables_in_use and oldest > self._inherited_revision:
            self._are_inherited_tables_in_use = False
            return None
        return released
