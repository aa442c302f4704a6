"""The page of all settings."""

from __future__ import annotations

import re
from pathlib import Path

from serving_app.config import parse_yaml
from serving_app.config.document import PAGE, document

ROOT = Path(__file__).parents[2]


def test_page_is_current() -> None:
    """The committed page is what the models say; `python -m serving_app.config.document` makes it so."""
    assert (ROOT / PAGE).read_text(encoding="utf-8") == document()


def test_every_setting_has_a_sentence() -> None:
    """No setting goes without a type, a default and a meaning that ends as a sentence does."""
    rows = [line for line in document().splitlines() if re.match(r"\| `\w+` \| .* \| .* \| ", line)]
    assert len(rows) > 40
    assert [row for row in rows if not re.fullmatch(r"\| `\w+` \| [^|]+ \| [^|]+ \| [A-Z].*\. \|", row)] == []


def test_example_is_a_configuration() -> None:
    """The example on the page can be used as it stands."""
    example = re.search(r"```yaml\n(.*?)```", document(), re.DOTALL)
    assert example is not None
    assert [model.name for model in parse_yaml(example[1]).models] == ["half_plus_two", "digits"]
