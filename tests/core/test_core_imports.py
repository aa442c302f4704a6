"""What the core needs to run."""

import pkgutil
import subprocess
import sys

import serving_app.core

SCRIPT = """
import sys
before = set(sys.modules)
import {modules}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(new - set(sys.stdlib_module_names)))
"""


def test_core_needs_only_the_standard_library():
    """A fresh interpreter that imports the whole core has imported nothing from outside the standard library."""
    names = [f"serving_app.core.{module.name}" for module in pkgutil.iter_modules(serving_app.core.__path__)]
    assert "serving_app.core.manager" in names
    script = SCRIPT.format(modules=", ".join(names))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["serving_app"]
