"""What a version's own files say about its session, over what its model's settings say."""

from __future__ import annotations

import logging
from pathlib import Path

from google.protobuf.message import DecodeError

from serving_app.protocol import messages

logger = logging.getLogger(__name__)

CONFIG_FILE = "assets.extra/saved_model_config.pb"
"""Where a version's SavedModelConfig lies (saved_model_config.cc)."""

_REWRITERS = ("remote_op_remap_config", "batch_op_rewriter_config")
"""For graph rewriters that are built into TensorFlow Serving, and not into TensorFlow's library."""


def override_session(config: bytes, path: str) -> bytes:
    """A serialised ConfigProto with the overrides of the version in this directory, if it has any.

    As in TensorFlow Serving a file that cannot be read is no reason not to load the version; it is logged.
    """
    file = Path(path, CONFIG_FILE)
    try:
        overrides = messages.SavedModelConfig.FromString(file.read_bytes()).session_overrides
    except FileNotFoundError:
        return config
    except (OSError, DecodeError) as error:
        logger.error("%s is left out, because it cannot be read: %s", file, error)
        return config
    for field in _REWRITERS:
        if overrides.HasField(field):
            logger.warning("%s: %s has no effect: TensorFlow's library lacks the rewriter that it is for", file, field)
    if not overrides.disable_meta_optimizer:
        return config
    session = messages.ConfigProto.FromString(config)
    session.graph_options.rewrite_options.disable_meta_optimizer = True
    encoded: bytes = session.SerializeToString()
    return encoded
