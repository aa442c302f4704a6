"""What the installed commands start with.

The package may be installed without what serves, for those who only call servers; its commands are there all the same,
and say what is missing.
"""

from __future__ import annotations

import importlib
import sys

_INSTALL = "pip install 'serving-app[cpu]' brings it together with TensorFlow's library, 'serving-app[serve]' without"


def serving_app() -> int:
    """`serving-app`; returns its exit status."""
    return _run("serving-app", "serving_app.cli")


def tensorflow_model_server() -> int:
    """`tensorflow_model_server`; returns its exit status."""
    return _run("tensorflow_model_server", "serving_app.cli.model_server")


def _run(command: str, module: str) -> int:
    try:
        main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "serving_app"):
            raise
        print(f"{command}: {error.name} is not installed, which this command needs: {_INSTALL}", file=sys.stderr)
        return 1
    status: int = main()
    return status
