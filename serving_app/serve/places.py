"""Where versions are and how large, for whoever carries out orders about them."""

from __future__ import annotations

from collections.abc import Collection

from serving_app.core import events
from serving_app.core.actions import StartLoad
from serving_app.core.servable import ServableId


class Places:
    """What was told of the versions of one app: where each was loaded from, and where it lies now."""

    def __init__(self) -> None:
        self._loaded_from: dict[ServableId, str] = {}
        self._listings: dict[str, events.VersionsListed] = {}

    def take_in(self, event: events.Event) -> None:
        """Remember what this event tells of places."""
        match event:
            case events.VersionsListed():
                self._listings[event.model] = event
            case events.ServableAdopted() | events.LoadAdopted():
                if event.path is not None:
                    self._loaded_from[event.servable] = event.path
            case events.ServableGone():
                self._loaded_from.pop(event.servable, None)

    def note_load(self, load: StartLoad) -> None:
        """This load is ordered."""
        self._loaded_from[load.servable] = load.path

    def keep_only(self, models: Collection[str]) -> None:
        """Forget the listings of all other models. Where their versions were loaded from is known until they go."""
        self._listings = {name: listing for name, listing in self._listings.items() if name in models}

    @property
    def loaded_from(self) -> dict[str, dict[int, str]]:
        """Where the versions lie that were loaded, or are to be, by model."""
        places: dict[str, dict[int, str]] = {}
        for servable, path in self._loaded_from.items():
            places.setdefault(servable.name, {})[servable.version] = path
        return places

    def find_path(self, servable: ServableId) -> str | None:
        """Where a version was loaded from, or else lies now."""
        listing = self._listings.get(servable.name)
        listed = listing.versions.get(servable.version) if listing else None
        return self._loaded_from.get(servable) or listed

    def is_found(self, servable: ServableId) -> bool:
        """Whether a version lies where versions of its model do, as far as was looked."""
        listing = self._listings.get(servable.name)
        return listing is not None and servable.version in listing.found

    def find_size(self, servable: ServableId) -> int | None:
        """How many bytes a version has, as far as that is known."""
        listing = self._listings.get(servable.name)
        return listing.sizes.get(servable.version) if listing else None
