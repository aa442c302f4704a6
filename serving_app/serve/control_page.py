"""The page for people about the control endpoints, made from their OpenAPI document. It needs no script."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from serving_app.config.control import SCHEMAS

Schema = Mapping[str, Any]

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24;
  background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de } h3 { margin: 2rem 0 0 }
code, pre { font: 14px/1.45 ui-monospace, monospace } pre { background: #f6f8fa; padding: .75rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } .method { color: #0550ae }
td, th { border: 1px solid #d0d7de; padding: .25rem .5rem; text-align: left; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117 } pre { background: #161b22 }
  a, .method { color: #79c0ff } td, th, h2 { border-color: #30363d } }
"""


def write_page(document: Schema) -> str:
    """The whole page."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Schema) -> Iterator[str]:
    info = document["info"]
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(info['title'])}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>{escape(info['title'])}</h1>"
    yield from (f"<p>{_prose(part)}</p>" for part in info["description"].strip().split("\n\n"))
    yield '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>'
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    yield "<table>"
    for method, path, operation in operations:
        link = f'<a href="#{operation["operationId"]}">{_request(method, path)}</a>'
        yield f"<tr><td>{link}</td><td>{_prose(operation['summary'])}</td></tr>"
    yield "</table>\n<h2>Operations</h2>"
    for method, path, operation in operations:
        yield from _operation(method, path, operation)
    yield "<h2>Shapes</h2>"
    for name, schema in document["components"]["schemas"].items():
        yield f'<h3 id="{escape(name)}">{escape(name)}</h3>'
        yield from _shape(schema)
    yield "</body>\n</html>"


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f'<h3 id="{operation["operationId"]}">{_request(method, path)}</h3>'
    words = [operation["summary"], operation.get("description", ""), "Needs a token." if operation["security"] else ""]
    yield f"<p>{_prose(' '.join(filter(None, words)))}</p>"
    rows = [
        (f"{each['name']}, in the {each['in']}", _kind(each["schema"]), each["description"])
        for each in operation["parameters"]
    ]
    yield from _table(rows)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    said = [] if body is None else [f"Body: {_kind(body['schema'])}."]
    yield f"<p>{' '.join([*said, f'Answer: {_kind(answer)}.'])}</p>"
    yield f"<pre>{escape(_example(method, path, operation, body))}</pre>"


def _example(method: str, path: str, operation: Schema, body: Schema | None) -> str:
    """A command that asks for it."""
    for each in operation["parameters"]:
        value = quote(str(each["example"]), safe="")
        path = path.replace(f"{{{each['name']}}}", value)
        path += f"?{each['name']}={value}" if each["in"] == "query" else ""
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    if operation["security"]:
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    if body is not None:
        words += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(body["example"]))]
    return " ".join([*words, shlex.quote(f"http://127.0.0.1:8501/control/v1{path}")])


def _shape(schema: Schema) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{_prose(schema['description'])}</p>"
    needed = schema.get("required", ())
    rows = []
    for name, each in schema.get("properties", {}).items():
        words = [each.get("description", "")]
        if "default" in each:
            words.append(f"Default: `{json.dumps(each['default'])}`.")
        elif name not in needed:
            words.append("May be left away.")
        rows.append((name, _kind(each), " ".join(filter(None, words))))
    yield from _table(rows)
    if "enum" in schema:
        yield f"<p>{_kind(schema)}</p>"


def _table(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        yield "<table>"
        yield from (
            f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{_prose(words)}</td></tr>"
            for name, kind, words in rows
        )
        yield "</table>"


def _kind(schema: Schema) -> str:
    """What a schema allows, in words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(SCHEMAS))
        return f'<a href="#{name}">{name}</a>'
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema.get('items', {}))}"
        case "object":
            inner = schema.get("additionalProperties")
            return f"object of {_kind(inner)} by name" if isinstance(inner, Mapping) else "object"
        case list(kinds):
            return " or ".join(kinds)
        case None:
            return "anything"
        case kind:
            return str(kind)


def _request(method: str, path: str) -> str:
    return f'<code><span class="method">{method.upper()}</span> {escape(path)}</code>'


def _prose(text: str) -> str:
    """Text in which backquotes stand around code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
