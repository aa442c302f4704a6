"""What is wanted of a serving app: the configuration in force, and the deployed one that it grew from.

Whoever deploys the app gives a configuration; whoever changes something at run time edits the one in force. Both are
kept together, so that a later deployment can tell which of its differences are news and which only look so because
something was changed at run time (`config.rebase`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from serving_app.config import ConfigError, ServingConfig, parse
from serving_app.config.rebase import rebase
from serving_app.config.rollout_traffic import impose
from serving_app.config.rollouts import dump_rollouts, load_rollouts
from serving_app.core.errors import DataLoss
from serving_app.core.rollout import Rollout

_FORMAT = 1


@dataclass(frozen=True)
class Applied:
    """A configuration as it was deployed, and when its application was built: the newest one wins."""

    generation: int
    config: ServingConfig


@dataclass(frozen=True)
class Wanted:
    """The configuration in force. Of two of these, the one with more edits is the newer."""

    base: ServingConfig
    """As it was deployed last."""
    generation: int
    config: ServingConfig
    edits: int = 0
    file_digest: str | None = None
    """Of the model_config_file that was applied last."""
    rollouts: tuple[Rollout, ...] = ()
    """Those that share requests, and the last that did, in the order in which they began."""

    def edit(
        self,
        config: ServingConfig,
        file_digest: str | None = None,
        rollouts: tuple[Rollout, ...] | None = None,
    ) -> Wanted:
        """The same after a change at run time."""
        return replace(
            self, config=config, edits=self.edits + 1, file_digest=file_digest or self.file_digest,
            rollouts=self.rollouts if rollouts is None else rollouts,
        )


def redeploy(wanted: Wanted | None, applied: Applied) -> Wanted:
    """What is wanted when this is deployed; an older deployment than the one that is known changes nothing."""
    if wanted is None:
        return Wanted(applied.config, applied.generation, applied.config)
    if applied.generation <= wanted.generation:
        return wanted
    config = impose(wanted.config, rebase(wanted.base, wanted.config, applied.config), wanted.rollouts)
    # Another file is another source: what the old one said last is no reason to leave it unread.
    same_file = applied.config.model_config_file == wanted.base.model_config_file
    file_digest = wanted.file_digest if same_file else None
    return Wanted(applied.config, applied.generation, config, wanted.edits + 1, file_digest, wanted.rollouts)


def encode_wanted(app: str, wanted: Wanted) -> bytes:
    """A text that people can read and `decode_wanted` takes back."""
    content = {
        "format": _FORMAT,
        "app": app,
        "edits": wanted.edits,
        "generation": wanted.generation,
        "file_digest": wanted.file_digest,
        "config": wanted.config.model_dump(mode="json", exclude_defaults=True),
        "base": wanted.base.model_dump(mode="json", exclude_defaults=True),
        "rollouts": dump_rollouts(wanted.rollouts),
    }
    return (json.dumps({**content, "sha256": _digest(content)}, indent=1) + "\n").encode()


def decode_wanted(encoded: bytes) -> Wanted:
    """What `encode_wanted` wrote. Raises DataLoss that says what is wrong with it."""
    try:
        content: Any = json.loads(encoded)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataLoss(f"it is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataLoss(f"it is not of format {_FORMAT}, which this version of serving-app writes")
    if content.pop("sha256", None) != _digest(content):
        raise DataLoss("its content is not what was written: the checksum differs")
    try:
        return Wanted(
            base=parse(content["base"], "its deployed configuration"),
            generation=content["generation"],
            config=parse(content["config"], "its configuration in force"),
            edits=content["edits"],
            file_digest=content["file_digest"],
            rollouts=load_rollouts(content.get("rollouts", [])),  # which earlier releases do not know
        )
    except (ConfigError, KeyError) as error:
        raise DataLoss(f"this version of serving-app cannot use it: {error}") from error


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
