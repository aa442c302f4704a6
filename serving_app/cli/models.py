"""`serving-app models`: what each model should serve, and what it does serve."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from serving_app.cli import asking
from serving_app.cli.health import news
from serving_app.cli.tables import some, table
from serving_app.client.control import Control
from serving_app.config import ModelConfig, parse_yaml
from serving_app.core.documents import dump, model_document
from serving_app.core.health import is_active, is_healthy, ready
from serving_app.core.policies import All, Latest, VersionPolicy
from serving_app.core.views import AppView, ModelView


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("models", help="the models, with their policies and labels", description=__doc__)
    asking.add_json(parser)
    asking.add_app(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return asking.run(_show(asking.open_control(options), options.json))


async def _show(control: Control, as_json: bool) -> int:
    view = await control.view()
    configured = {model.name: model for model in parse_yaml(await control.config()).models}
    if as_json:
        models = sorted(view.models.items())
        asking.say(dump({"models": [_document(model, configured.get(name)) for name, model in models]}))
    else:
        asking.say(page(view, configured, time.time()))
    return asking.FINE if all(map(is_healthy, view.models.values())) else asking.UNHEALTHY


def _document(model: ModelView, config: ModelConfig | None) -> dict[str, Any]:
    """The same as in `status`, with what only the configuration tells."""
    return {
        **model_document(model),
        "base_path": config and config.base_path,
        "version_policy": config and config.model_dump(mode="json")["version_policy"],
    }


def page(view: AppView, configured: Mapping[str, ModelConfig], now: float) -> str:
    """A table with a line, or some, for each model."""
    if not view.models:
        return f"{view.app} has no models"
    return table(
        ("MODEL", "POLICY", "ASPIRED", "READY", "LABELS", "BASE PATH, NEWS"),
        [_row(model, configured.get(name), now) for name, model in sorted(view.models.items())],
    )


def _row(model: ModelView, config: ModelConfig | None, now: float) -> tuple[str, ...]:
    aspired = "" if model.aspired is None else some(sorted(model.aspired, reverse=True), 3) or "none"
    labels = [
        f"{label}={version}" + ("" if is_active(model, label) else " (pending)")
        for label, version in sorted(model.labels.items())
    ]
    return (
        model.name,
        policy_words(config.version_policy) if config else "",
        aspired,
        some(ready(model), 3) or "none",
        some(labels, 3),
        "\n".join([*([config.base_path] if config else []), *news(model, now)]),
    )


def policy_words(policy: VersionPolicy) -> str:
    """A version policy in a few words."""
    if isinstance(policy, Latest):
        return "latest" if policy.num_versions == 1 else f"latest {policy.num_versions}"
    return "all" if isinstance(policy, All) else some(policy.versions, 3)
