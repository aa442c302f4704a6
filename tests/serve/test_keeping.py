"""The two copies of what is wanted: which one counts, and what happens when one cannot be read or written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving_app.config import ServingConfig, parse, set_label
from serving_app.core.errors import PermissionDenied, ServingError
from serving_app.serve import keeping
from serving_app.serve.keeping import Keeping
from serving_app.serve.wanted import Applied, Wanted, decode_wanted
from serving_app.store.state_file import StateFile
from tests.serve.kept import keep_here
from tests.stepping import until


class Place:
    """A cluster's store, a directory for the file, and what was told of problems."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.kept = keep_here(monkeypatch)
        self.told: list[str | None] = []
        self.config = parse({"models": {"m": "/models/m"}, "state_uri": str(directory)})
        monkeypatch.setattr(keeping, "_RETRY_S", 0.0)

    @property
    def file(self) -> Path:
        return self.directory / "app.json"

    def restore(self, generation: int = 1, config: ServingConfig | None = None) -> Wanted:
        return asyncio.run(Keeping("app", self.told.append).restore(Applied(generation, config or self.config)))

    def keep_in_cluster_alone(self) -> None:
        """So that nothing has to be read from the file."""
        self.restore(1, parse({"models": {"m": "/models/m"}}))

    def keep(self, wanted: Wanted) -> None:
        asyncio.run(Keeping("app", self.told.append).keep(wanted))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path / "state", monkeypatch)


def labelled(wanted: Wanted, version: int) -> Wanted:
    return wanted.edit(set_label(wanted.config, "m", "stable", version))


def test_what_is_in_force_is_told_in_a_sentence(place: Place) -> None:
    """Whether it is what was deployed, and where changes are kept."""
    deployed = place.restore()
    keeping = Keeping("app", place.told.append)
    where = f"kept in {place.file} and, as long as it lives, the cluster"
    assert keeping.describe(deployed) == (
        f"the configuration in force is the deployed one; changes at run time will be {where}"
    )
    assert f"by what was changed at run time, which is {where};" in keeping.describe(labelled(deployed, 3))
    alone = place.restore(2, parse({"models": {"m": "/models/m"}}))
    assert keeping.describe(alone).endswith("will be kept in the cluster, as long as it lives")


def test_a_change_survives_the_controller(place: Place) -> None:
    """A new controller on the same cluster knows what was changed, with or without a file."""
    for config in (place.config, parse({"models": {"m": "/models/m"}})):
        place.kept.clear()
        changed = labelled(place.restore(1, config), 3)
        place.keep(changed)
        assert place.restore(1, config) == changed
        place.file.unlink(missing_ok=True)


def test_a_change_survives_the_cluster(place: Place) -> None:
    """A new cluster that is deployed to with the same state_uri knows what was changed."""
    changed = labelled(place.restore(), 3)
    place.keep(changed)
    place.kept.clear()
    assert place.restore(2).config == changed.config
    assert place.kept


def test_without_a_file_a_new_cluster_starts_afresh(place: Place) -> None:
    """The cluster's own store ends with it."""
    config = parse({"models": {"m": "/models/m"}})
    place.keep(labelled(place.restore(1, config), 3))
    place.kept.clear()
    assert place.restore(2, config).config == config


def test_the_cluster_knows_better_than_the_file(place: Place) -> None:
    """A change that was written to the file but never acknowledged does not come back on the same cluster."""
    first = place.restore()
    place.keep(first)
    before = dict(place.kept)
    place.keep(labelled(first, 3))
    place.kept.update(before)
    assert place.restore() == first
    assert decode_wanted(place.file.read_bytes()) == first


def test_a_corrupt_file_is_kept_aside(place: Place) -> None:
    """Nobody guesses what a damaged file meant: it is kept under another name, that is told, and the deployed
    configuration is in force."""
    place.keep(labelled(place.restore(), 3))
    place.kept.clear()
    place.file.write_bytes(damaged := place.file.read_bytes()[:-40])
    assert place.restore(2).config == place.config
    [aside] = place.directory.glob("app.json.unreadable-*")
    assert aside.read_bytes() == damaged
    assert place.told[-1] is not None
    assert aside.name in place.told[-1]
    assert decode_wanted(place.file.read_bytes()).config == place.config


def test_a_corrupt_copy_in_the_cluster_falls_back_to_the_file(place: Place) -> None:
    """The file still has what was changed."""
    changed = labelled(place.restore(), 3)
    place.keep(changed)
    place.kept["wanted:app"] = b"nonsense"
    assert place.restore() == changed


def test_a_file_that_cannot_be_read_is_waited_for(place: Place) -> None:
    """Nothing is served by guess while the state cannot be read; the reason is told, and taken back when it is over."""
    changed = labelled(place.restore(), 3)
    place.keep(changed)
    place.kept.clear()
    content = place.file.read_bytes()
    place.file.unlink()
    place.file.mkdir()

    async def scenario() -> None:
        restoring = asyncio.create_task(Keeping("app", place.told.append).restore(Applied(2, place.config)))
        await until(lambda: bool(place.told))
        assert place.told[0] is not None
        assert "nothing is served before the state file can be read" in place.told[0]
        place.file.rmdir()
        place.file.write_bytes(content)
        assert (await restoring).config == changed.config

    asyncio.run(scenario())
    assert place.told[-1] is None
    assert len(place.told) == 2


def test_a_change_that_cannot_be_kept_is_refused(place: Place) -> None:
    """When the file cannot be written neither copy changes."""
    first = place.restore()
    before = dict(place.kept)
    place.file.unlink()
    place.file.mkdir()
    with pytest.raises(ServingError, match=r"app\.json"):
        place.keep(labelled(first, 3))
    assert place.kept == before


def test_an_app_starts_though_the_file_cannot_be_written(place: Place) -> None:
    """What is known is served, and that changes cannot be kept is told."""
    place.directory.write_text("a file where a directory should be")
    place.keep_in_cluster_alone()
    assert place.restore(2).config.models == place.config.models
    assert place.told[-1] is not None
    assert "cannot be kept" in place.told[-1]


def test_a_deleted_app_is_forgotten_by_the_cluster_alone(place: Place) -> None:
    """The file stays for the day that the app is deployed again."""
    changed = labelled(place.restore(), 3)
    place.keep(changed)
    Keeping("app", place.told.append).forget()
    assert not place.kept
    assert place.restore(2).config == changed.config


def test_the_file_is_the_owners_alone(place: Place) -> None:
    """Store options may hold credentials: nobody else on the node can read them."""
    place.restore()
    assert place.file.stat().st_mode & 0o077 == 0


def test_that_changes_cannot_be_kept_is_told_only_while_it_holds(place: Place) -> None:
    """The first change that is kept again takes the warning back."""
    keeping = Keeping("app", place.told.append)
    place.directory.write_text("a file where a directory should be")
    place.keep_in_cluster_alone()
    wanted = asyncio.run(keeping.restore(Applied(2, place.config)))
    assert "cannot be kept" in str(place.told[-1])
    place.directory.unlink()
    asyncio.run(keeping.keep(labelled(wanted, 3)))
    assert place.told[-1] is None


def test_a_corrupt_file_that_cannot_be_kept_aside_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has to move it then, and is told so; the controller neither ends nor writes over it."""
    changed = labelled(place.restore(), 3)
    place.keep(changed)
    place.kept.clear()
    content = place.file.read_bytes()
    place.file.write_bytes(b"nonsense")

    def refuse(file: StateFile, stamp: str) -> str:
        raise PermissionDenied(f"{file.uri} may not be renamed")

    monkeypatch.setattr(StateFile, "keep_aside", refuse)

    async def scenario() -> None:
        restoring = asyncio.create_task(Keeping("app", place.told.append).restore(Applied(2, place.config)))
        await until(lambda: bool(place.told))
        assert "may not be renamed); move it out of the way" in str(place.told[0])
        assert place.file.read_bytes() == b"nonsense"
        place.file.write_bytes(content)
        assert (await restoring).config == changed.config

    asyncio.run(scenario())
    assert place.told[-1] is None


def test_a_new_cluster_takes_what_is_deployed_whatever_its_clock_says(place: Place) -> None:
    """The file of a cluster whose clock was ahead does not make every deployment look like an old one; on the same
    cluster an older deployment, such as the one that the actor was made with, says nothing."""
    place.keep(labelled(place.restore(generation=1000), 3))
    new = parse({"models": {"m": "/models/m", "n": "/models/n"}, "state_uri": str(place.directory)})
    assert place.restore(500, new).generation == 1000
    place.kept.clear()
    wanted = place.restore(500, new)
    assert [(model.name, dict(model.labels)) for model in wanted.config.models] == [("m", {"stable": 3}), ("n", {})]
    assert wanted.generation == 500


def test_a_file_may_lag(place: Place) -> None:
    """What must not wait for the file is kept in the cluster, and that is told, until the file catches up."""
    first = place.restore()
    kept = Keeping("app", place.told.append)
    place.file.unlink()
    place.file.mkdir()
    back = labelled(first, 4)
    asyncio.run(kept.keep(back, may_lag=True))
    assert "kept in the cluster alone" in str(place.told[-1])
    assert place.restore() == back
    place.file.rmdir()
    asyncio.run(kept.keep(labelled(back, 5)))
    assert place.told[-1] is None
    assert decode_wanted(place.file.read_bytes()) == labelled(back, 5)
