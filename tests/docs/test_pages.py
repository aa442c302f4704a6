"""The pages name everything that users can name, and nothing that is not there."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest

import serving_app
import serving_app.notebook
from serving_app.cli import make_parser
from serving_app.client.connection import Connection, Model, connect
from serving_app.config import GatewayConfig, ModelConfig, ServingConfig
from serving_app.config.settings import Settings
from serving_app.core.errors import Code
from serving_app.core.states import PublicState
from serving_app.protocol import grpc_methods, messages
from serving_app.protocol.rest_status import HTTP_STATUS
from serving_app.protocol.rest_url import RestAction
from serving_app.serve import rest_app
from serving_app.serve.grpc_app import GrpcApp
from serving_app.serve.grpc_settings import ARGUMENTS
from tests.docs.pages import PAGES, ROOT, anchors, blocks, matches, page_name, scenarios


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


# --- links and examples ----------------------------------------------------------------------------------------------


LINKS = [
    (page, target)
    for page in PAGES
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    if not target.startswith(("http:", "https:"))
]
"""Every link to another place of the project, with its page."""


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: str(value).rpartition("/")[2])
def test_links_lead_somewhere(page: Path, target: str) -> None:
    """Every link between pages names a file that is there, and a heading in it."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert not anchor or anchor in anchors(file)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_page_is_found_from_the_readme(page: Path) -> None:
    """Whoever starts at the README gets to every page by links."""
    seen: set[Path] = set()
    queue = [ROOT / "README.md"]
    while queue:
        at = queue.pop()
        if at in seen or not at.is_file() or at.suffix != ".md":
            continue
        seen.add(at)
        queue += [(at.parent / target.partition("#")[0]).resolve() for start, target in LINKS if start == at]
    assert page in seen


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_examples_are_run_or_say_why_not(page: Path) -> None:
    """Commands and Python on a page are run by a test, or a comment before them tells why they are not."""
    to_run = [each for each in blocks(page) if each.language in {"console", "python"}]
    assert [f"line {each.line}" for each in to_run if not each.mark] == []


def test_a_scenario_is_in_the_order_of_its_page() -> None:
    """The blocks of the README's demo become commands in their order, with the output that the page shows."""
    demo = [command for step in scenarios()["README.md: demo"] for command in step.commands]
    assert demo[0].line == "make serve"
    assert [command.line for command in demo if "says" in command.output] == ["python example.py"]
    removed = next(at for at, command in enumerate(demo) if command.line == "rm -r .demo/ready/half_plus_two/2")
    assert demo[removed + 1].output == '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}\n'


@pytest.mark.parametrize(
    ("pattern", "output", "is_match"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\nb", "a\nc", False),
        ("a...c", "abbc", True),
        ("a.c", "abc", False),
        ("...\nlast", "first\nlast\n", True),
        ("{...}", "{}", True),
    ],
)
def test_dots_stand_for_anything(pattern: str, output: str, is_match: bool) -> None:
    """Three dots in an example's output stand for anything, all else for itself."""
    assert matches(pattern, output) is is_match


# --- what users can name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", serving_app.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Every public name of the package stands on the page about Python."""
    assert f"`{name}`" in read("docs/python.md")


@pytest.mark.parametrize("name", serving_app.notebook.__all__)
def test_names_for_notebooks_are_documented(name: str) -> None:
    """Every name of `serving_app.notebook` has a row on its page, with its parameters as they are written."""
    rows = re.findall(rf"^\| `{name}(\(.*?\))?` \|", read("docs/notebooks.md"), re.M)
    assert len(rows) == 1
    parameters = inspect.signature(getattr(serving_app.notebook, name)).parameters
    assert not rows[0] or [each for each in parameters if not re.search(rf"\b{each}\b", rows[0])] == []


METHODS = {"connect": connect} | {
    name: member for owner in (Connection, Model) for name, member in vars(owner).items() if not name.startswith("_")
}
"""What a Python caller can call."""


@pytest.mark.parametrize("name", METHODS)
def test_public_methods_are_documented(name: str) -> None:
    """Every public method stands on the page about Python, and so does each of its parameters."""
    page, method = read("docs/python.md"), METHODS[name]
    if isinstance(method, property):
        assert f"`{name}`" in page
        return
    assert f"{name}(" in page
    assert inspect.isfunction(method)
    parameters = [each for each in inspect.signature(method).parameters if each != "self"]
    assert [each for each in parameters if not re.search(rf"\b{each}\b", page)] == []


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a command by name."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


COMMANDS = below(make_parser())
"""The commands of `serving-app` by name."""


def options_of(command: str) -> list[argparse.Action]:
    """The flags and arguments of a command, and of what it can be told to do."""
    parser = COMMANDS[command]
    return [action for each in (parser, *below(parser).values()) for action in each._actions]


def section(page: str, heading: str) -> str:
    """The part of a page below a heading."""
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    assert match is not None, f"no section {heading}"
    return match[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_documented(command: str) -> None:
    """The page of commands has a section for each command that names each of its flags, and no others."""
    text = section(read("docs/cli.md"), f"serving-app {command}")
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    known = {flag for action in options_of(command) for flag in action.option_strings}
    assert set(re.findall(r"`(--?[a-z][a-z-]*)`", rows)) == known


@pytest.mark.parametrize("command", [name for name in COMMANDS if below(COMMANDS[name])])
def test_every_action_is_documented(command: str) -> None:
    """The section of a command that can do several things shows how each is written."""
    text = section(read("docs/cli.md"), f"serving-app {command}")
    usages = [line for line in text.splitlines() if line.startswith(f"    serving-app {command} ")]
    assert [action for action in below(COMMANDS[command]) if not any(action in line.split() for line in usages)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_help_text(command: str) -> None:
    """Each flag and argument of a command tells what it does."""
    assert [action.dest for action in options_of(command) if not action.help] == []


def test_top_level_flags_are_documented() -> None:
    """The flags of `serving-app` itself are documented."""
    page = read("docs/cli.md")
    assert all(f"`{flag}`" in page for action in make_parser()._actions for flag in action.option_strings)


def find_groups(settings: type[Settings]) -> dict[str, type[Settings]]:
    """The settings that are groups themselves, those within groups included, by their names."""
    groups: dict[str, type[Settings]] = {}
    for name, field in settings.model_fields.items():
        # Of a list of groups, as `models` is, no page names a setting by the list's name.
        is_optional = get_origin(field.annotation) is UnionType
        for kind in get_args(field.annotation) if is_optional else (field.annotation,):
            if isinstance(kind, type) and issubclass(kind, Settings):
                groups |= {name: kind, **find_groups(kind)}
    return groups


_GROUPS = {**find_groups(ServingConfig), **find_groups(ModelConfig)}


def test_groups_of_settings_are_found() -> None:
    """Groups of the whole and of models, optional ones among them."""
    assert {"gateway", "load", "batching", "session", "warmup", "autoscaling"} <= _GROUPS.keys()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "configuration.md"], ids=page_name)
def test_settings_that_pages_name_are_there(page: Path) -> None:
    """A setting that a page names as `group.setting` is one."""
    named = re.findall(rf"`({'|'.join(_GROUPS)})\.(\w+)`", page.read_text(encoding="utf-8"))
    assert [(group, name) for group, name in named if name not in _GROUPS[group].model_fields] == []


def test_top_level_settings_that_operations_names_are_there() -> None:
    """The settings that the page for the person on call tells to change are settings."""
    known = {*ServingConfig.model_fields, *ModelConfig.model_fields}
    advised = {"base_path", "cache_dir", "drain_timeout_s", "labels", "load_timeout_s", "memory", "num_cpus"}
    assert advised <= known
    assert all(f"`{name}`" in read("docs/operations.md") for name in advised)


# --- the wire --------------------------------------------------------------------------------------------------------


def table_rows(page: str) -> dict[str, str]:
    """The second cell of each row of a page's tables, by the first."""
    return dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|$", read(page), re.M))


_NAMES = [value for value in vars(grpc_methods).values() if isinstance(value, str)]
RPCS = [value for value in _NAMES if re.fullmatch(r"/[\w.]+/\w+", value)]
"""Every RPC that TensorFlow Serving offers."""


@pytest.mark.parametrize("path", RPCS)
def test_every_rpc_is_in_the_table_as_it_is(path: str) -> None:
    """The table of RPCs names each, and says `absent` exactly for those that the server does not have."""
    methods = GrpcApp(None, None, settings=GatewayConfig()).methods()  # type: ignore[arg-type]  # nothing is called
    is_served = path in methods
    assert table_rows("docs/compatibility.md")[path].startswith("absent") is not is_served


def test_channel_arguments_are_in_their_table() -> None:
    """The table of channel arguments names those that have an effect, and no other."""
    section = read("docs/model-server.md").partition("## Channel arguments")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`grpc.*?) \|", section, re.M)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == ARGUMENTS.keys()


_FILES = ("ModelServerConfig", "BatchingParameters", "SSLConfig", "MonitoringConfig", "PlatformConfigMap")
_WITHIN_ANY = ("SavedModelBundleSourceAdapterConfig", "SavedModelConfig")
_AS_A_WHOLE = {"LoggingConfig", "RemoteOpRemapConfig", "BatchOpRewriterConfig"}
"""Messages of which the table says that they are left out, without a word on what is in them."""


def _fields(message: Any, seen: set[str]) -> Iterator[str]:
    """The fields of a message and of those in it, as far as they are TensorFlow Serving's own."""
    if message.full_name in seen or message.name in _AS_A_WHOLE:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if not message.GetOptions().map_entry:
            yield f"{message.name}.{field.name}"
        if field.message_type is not None and field.message_type.full_name.startswith("tensorflow.serving."):
            yield from _fields(field.message_type, seen)


def test_every_field_of_files_is_in_the_table() -> None:
    """The table of fields names each one that a text file of TensorFlow Serving may set, and nothing else."""
    roots = [messages.POOL.FindMessageTypeByName(f"tensorflow.serving.{name}") for name in (*_FILES, *_WITHIN_ANY)]
    seen: set[str] = set()
    fields = {field for root in roots for field in _fields(root, seen)}
    section = read("docs/compatibility.md").partition("## Fields of files")[2]
    named = set(re.findall(r"`([A-Z]\w+\.\w+)`", section))
    assert named == fields


@pytest.mark.parametrize("action", RestAction)
def test_every_rest_action_is_in_the_table(action: RestAction) -> None:
    """The table of REST routes has a row for each action."""
    rows = [row for row in table_rows("docs/compatibility.md") if "/v1/" in row or "…" in row]
    ends = {RestAction.STATUS: "L]", RestAction.METADATA: "/metadata"}
    assert any(row.endswith(ends.get(action, f":{action.value}")) for row in rows)


@pytest.mark.parametrize("page", ["docs/compatibility.md", "docs/operations.md"])
def test_own_endpoints_are_documented(page: str) -> None:
    """Each path that the gateway answers beside TensorFlow Serving's API is in both tables."""
    paths = set(re.findall(r'"(/healthz/\w+)"', inspect.getsource(rest_app)))
    assert len(paths) == 3
    assert all(f"{path}`" in read(page) for path in paths)


@pytest.mark.parametrize("code", Code)
def test_codes_have_the_documented_status(code: Code) -> None:
    """The table of HTTP statuses says for every code what the server says."""
    assert f"| {code.name} | {HTTP_STATUS[code]} |" in read("docs/compatibility.md")


@pytest.mark.parametrize("state", PublicState)
def test_states_are_documented(state: PublicState) -> None:
    """Each state that a client may see is explained to the person on call."""
    assert f"\n| {state.name} | " in read("docs/operations.md")


# --- the rest --------------------------------------------------------------------------------------------------------


def test_changelog_has_this_version() -> None:
    """The changelog's newest entry is the version of the package."""
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M)
    assert newest is not None
    assert newest[1] == serving_app.__version__


DECISIONS = sorted(path for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name != "README.md")


def test_decisions_are_numbered() -> None:
    """Decisions are numbered one by one."""
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decisions_say_what_why_and_what_else(path: Path) -> None:
    """Each decision says what was decided, why, at what price, and what was rejected; the list has its title."""
    text = path.read_text(encoding="utf-8")
    parts = ("**Decision.**", "**Why", "**Price.**", "**Rejected.**")
    assert [part for part in parts if part not in text] == []
    title = re.match(r"# (.*)\n", text)
    assert title is not None
    assert f"- [{title[1]}]({path.name})" in read("docs/decisions/README.md")


def test_make_verbs_are_documented() -> None:
    """CONTRIBUTING names every verb of the Makefile that is meant for people."""
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.M)
    assert phony is not None
    verbs = set(phony[1].split()) - {"help", "install"}
    assert [verb for verb in sorted(verbs) if f"`make {verb}`" not in read("CONTRIBUTING.md")] == []
