"""What is wrong with a configuration, told in one block that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from serving_app.core.errors import InvalidArgument


class ConfigError(InvalidArgument):
    """A configuration cannot be used; the message names each place and what to write there."""


def describe(
    error: ValidationError, root: type[BaseModel], source: str = "The configuration", written: object = None
) -> str:
    """All that is wrong in `source`, one line for each place; `written` is what stands there, if that is at hand."""
    problems = error.errors(include_url=False)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {_place(problem['loc'], written)}: {_explain(problem, root)}" for problem in problems]
    return "\n".join([f"{source} has {count}:", *lines])


def unknown_setting(name: str, known: Sequence[str]) -> str:
    """The sentence about a setting that does not exist."""
    close = get_close_matches(name, known, n=1)
    guess = f"; did you mean {close[0]}" if close else ""
    return f"there is no such setting{guess}{'?' if guess else '.'} The settings here are: {', '.join(known)}"


def _place(location: Sequence[int | str], written: object) -> str:
    text = ""
    for step in location:
        is_named = isinstance(written, Mapping)
        if isinstance(step, int) and isinstance(written, Mapping) and step not in written and step < len(written):
            step = list(written)[step]  # a list to us, and names to who wrote it
        text += f"[{step}]" if isinstance(step, int) and not is_named else f".{step}"
        written = _within(written, step)
    return text.removeprefix(".") or "(the whole)"


def _within(written: object, step: int | str) -> object:
    if isinstance(written, Mapping):
        return written.get(step)
    return written[step] if isinstance(written, list) and isinstance(step, int) and step < len(written) else None


def _explain(problem: Any, root: type[BaseModel]) -> str:
    *parents, name = problem["loc"] or [""]
    group = _group_at(root, parents)
    if problem["type"] == "extra_forbidden":
        return unknown_setting(str(name), list(group.model_fields))
    if problem["type"] == "missing":
        return f"this has no default and must be given: {group.model_fields[str(name)].description}"
    if problem["type"] == "model_type":
        needed = [name for name, field in _group_at(root, problem["loc"]).model_fields.items() if field.is_required()]
        least = f" with {' and '.join(needed)} at least" if needed else ""
        return f"expected a mapping of settings{least}, got {_show(problem)}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{problem['msg']}; got {_show(problem)}"


_MAY_BE_SECRET = {"stores", "storage_options"}
"""Settings that hold credentials; what was written there must not end in a log."""


def _show(problem: Any) -> str:
    value = problem["input"]
    return f"a {type(value).__name__}" if _MAY_BE_SECRET & {*problem["loc"]} else repr(value)


def _group_at(root: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The group of settings at a place: fields are followed by name, positions in lists skipped."""
    group = root
    for step in location:
        if step in group.model_fields:
            group = next(_groups_in(group.model_fields[str(step)].annotation), group)
    return group


def _groups_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _groups_in(argument)
