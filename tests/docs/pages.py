"""The pages of the project, and the examples in them.

A fenced block is an example when an HTML comment before it says so:

    <!-- example: demo -->                     runs in the scenario `demo` of its page
    <!-- example: demo, file config.yaml -->   is written to this file before what follows it
    <!-- output -->                            is what the example before it prints
    <!-- not run: it needs a GPU -->           is there to be read; the reason is told

The blocks of one scenario run in their order. In a block of `console`, lines that begin with `$ ` are commands (they go
on after a backslash), and the lines up to the next one are what they print; `...` stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>(?:example|not run|output)\b[^>]*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


def page_name(path: Path) -> str:
    """The path of a page within the project."""
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The places within a page that a link can name, as GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@dataclass
class Block:
    """A fenced block and the mark before it, which may be empty."""

    page: str
    line: int
    language: str
    text: str
    mark: str


@dataclass
class Command:
    """A line for a shell and what it prints, as far as the page tells."""

    line: str
    output: str = ""


@dataclass
class Step:
    """One thing to do in a scenario: run commands, run a script, or write a file."""

    where: str
    commands: list[Command] = field(default_factory=list)
    file: str = ""
    text: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    content = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        line = content.count("\n", 0, match.start("language")) + 1
        yield Block(page_name(page), line, match["language"], match["text"], match["mark"] or "")


def scenarios() -> dict[str, list[Step]]:
    """The steps of every scenario of every page, by `page: name`."""
    found: dict[str, list[Step]] = {}
    last: Step | None = None
    for page in PAGES:
        for block in blocks(page):
            kind, _, rest = block.mark.partition(":")
            if kind == "output" and last is not None:
                last.commands[-1].output = block.text
            elif kind == "example":
                name, _, option = rest.strip().partition(", ")
                last = _step(block, option)
                found.setdefault(f"{block.page}: {name}", []).append(last)
    return found


def _step(block: Block, option: str) -> Step:
    where = f"{block.page}, line {block.line}"
    if option.startswith("file "):
        return Step(where, file=option.removeprefix("file "), text=block.text)
    if block.language == "python":
        return Step(where, [Command("python example.py")], "example.py", block.text)
    return Step(where, list(_commands(block.text)))


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        match = re.match(r"((?:[^\n]*\\\n)*[^\n]*\n)", part)
        assert match is not None
        yield Command(match[1].strip(), part[match.end() :])


def matches(pattern: str, output: str) -> bool:
    """Whether an output is what a page tells: `...` stands for anything, and blanks at the ends do not count."""
    parts = [re.escape(part) for part in pattern.strip().split("...")]
    return re.fullmatch(".*?".join(parts), output.strip(), re.S) is not None
