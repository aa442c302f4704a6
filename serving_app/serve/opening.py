"""When a gateway with `open_when_loaded` opens its ports.

As in TensorFlow Serving, that is when every configured model has a version that is ready or has failed for good, and it
happens once in the life of a serving app: a gateway that replaces another, or comes later, opens at once.
"""

from __future__ import annotations

import asyncio
import logging
import time

from serving_app import ray_private
from serving_app.client.control import Control
from serving_app.config import ServingConfig
from serving_app.core.errors import ServingError
from serving_app.serve.reloads import find_first_outcome

logger = logging.getLogger("ray.serve")

_NEWS_S = 5.0
_PACE_S = 0.05
"""Between two looks at least, however much happens."""


async def wait_until_loaded(app: str, deployed: ServingConfig) -> int:
    """Returns when the ports may open, with the revision of the routes that name what was loaded by then; cancel it to
    wait no more."""
    key = _key(app)
    if await asyncio.to_thread(ray_private.get_state, key) is not None:
        return 0
    control = Control(app)
    seen = -1
    while True:
        began = time.monotonic()
        try:
            seen = await control.wait_for_change(seen, _NEWS_S)
            view = await control.view()
        except ServingError as error:  # the controller starts again
            logger.debug("no news of the first loads: %s", error)
        else:
            # A controller that starts again knows of no models at first.
            is_blank = bool(deployed.models) and not view.models
            if not is_blank and find_first_outcome(view.models, deployed.load.quick_retries) is not None:
                break
        await asyncio.sleep(max(0.0, _PACE_S - (time.monotonic() - began)))
    await asyncio.to_thread(ray_private.put_state, key, b"")
    return view.revision


def forget(app: str) -> None:
    """The app is deleted: whoever is deployed under its name begins anew."""
    ray_private.delete_state(_key(app))


def _key(app: str) -> str:
    """Under which the cluster keeps that this app's ports have been open."""
    return f"opened:{app}"
