"""`/api/docs`: the OpenAPI document as one page of HTML. No script, nothing from elsewhere; everything is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")

_STYLE = """
:root{color-scheme:light dark;--line:#8886;--soft:#8881;--accent:#2563eb}
@media(prefers-color-scheme:dark){:root{--accent:#93b4ff}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.55 system-ui,sans-serif;display:grid;grid-template-columns:17rem minmax(0,1fr)}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1rem;border-right:1px solid var(--line);font-size:.9rem}
nav h2{font-size:.8rem;margin:1rem 0 .2rem;text-transform:uppercase;letter-spacing:.05em}
nav ul{list-style:none;margin:0;padding:0}nav a{display:block;padding:.1rem 0;text-decoration:none}
main{padding:1rem 2rem 4rem;max-width:60rem}a{color:var(--accent)}
article{border-top:1px solid var(--line);padding:1rem 0}
h3{font-size:1.05rem;margin:0}code,pre{font:.88em/1.5 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:6px}
.method{display:inline-block;min-width:3.6rem;font-weight:700}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.92rem}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
summary{cursor:pointer}:target{scroll-margin-top:1rem;outline:2px solid var(--accent);outline-offset:.5rem}
@media(max-width:50rem){body{display:block}nav{position:static;height:auto;border:0}main{padding:1rem}}
"""


def render_docs(document: dict[str, Any]) -> str:
    return "".join(_page(document))


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = f"{escape(info['title'])} API {escape(info['version'])}"
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    )
    by_tag = {tag["name"]: list(_operations(document, tag["name"])) for tag in document["tags"]}
    yield '<nav aria-label="Contents">'
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2><ul>"
        for _, _, operation in operations:
            yield f'<li><a href="#{_anchor(operation)}">{escape(operation["summary"])}</a></li>'
        yield "</ul>"
    yield '<h2><a href="#schemas">Schemas</a></h2></nav><main>'
    yield f"<h1>{title}</h1>{_prose(info.get('description', ''))}"
    yield '<p>For programs: <a href="/api/openapi.json">openapi.json</a> (OpenAPI 3.1).</p>'
    yield "<h2>Signing in</h2><table>"
    for name, scheme in document["components"]["securitySchemes"].items():
        yield f"<tr><th><code>{escape(name)}</code></th><td>{_inline(scheme.get('description', ''))}</td></tr>"
    yield "</table>"
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>{_prose(tag.get('description') or '')}"
        for method, path, operation in by_tag[tag["name"]]:
            yield from _operation(method, path, operation, document)
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield from _schema(name, schema)
    yield "</main></body></html>"


def _operations(document: dict[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item and tag in item[method]["tags"]:
                yield method, path, item[method]


def _anchor(operation: dict[str, Any]) -> str:
    return escape(operation["operationId"])


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    yield f'<article id="{_anchor(operation)}"><h3>{escape(operation["summary"])}</h3>'
    yield f'<p><code><span class="method">{method.upper()}</span> {escape(path)}</code></p>'
    yield _prose(operation.get("description", ""))
    security = operation.get("security")
    if security:
        names = " or ".join(
            "nothing" if not entry else f"<code>{escape(next(iter(entry)))}</code>" for entry in security
        )
        yield f"<p>Signed in with {names}.</p>"
    if operation["parameters"]:
        yield '<table><thead><tr><th scope="col">Parameter</th><th scope="col">In</th><th scope="col">Type</th>'
        yield '<th scope="col"></th></tr></thead>'
        for parameter in operation["parameters"]:
            must = " (needed)" if parameter["required"] else ""
            yield (
                f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}{must}</td>"
                f"<td>{_type(parameter['schema'])}</td><td>{_inline(parameter.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: {_type(content['schema'])} as <code>{escape(media_type)}</code></p>"
        yield _example(content, document)
    yield '<table><thead><tr><th scope="col">Status</th><th scope="col">Answer</th></tr></thead>'
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}</td><td>{_inline(response['description'])} {_answer(response)}</td></tr>"
    yield "</table></article>"


def _answer(response: dict[str, Any]) -> str:
    parts = []
    for media_type, content in response.get("content", {}).items():
        schema = content["schema"]
        if "allOf" in schema:
            codes = schema["allOf"][1]["properties"]["code"]["enum"]
            parts.append("Codes: " + ", ".join(f"<code>{escape(code)}</code>" for code in codes))
        else:
            parts.append(f"{_type(schema)} as <code>{escape(media_type)}</code>")
    if response.get("headers"):
        parts.append("Headers: " + ", ".join(f"<code>{escape(name)}</code>" for name in response["headers"]))
    return ". ".join(parts)


def _example(content: dict[str, Any], document: dict[str, Any]) -> str:
    if "example" in content:
        return f"<pre>{escape(content['example'])}</pre>"
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    examples = document["components"]["schemas"].get(name, {}).get("examples")
    return "" if not examples else f"<pre>{_json(examples[0])}</pre>"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<article id="schema-{escape(name)}"><h3><code>{escape(name)}</code></h3>'
    yield _prose(schema.get("description", ""))
    if "enum" in schema:
        yield f"<p>{_type(schema)}</p>"
    if schema.get("properties"):
        yield "<table>"
        for field, kind in schema["properties"].items():
            must = "" if field in schema.get("required", ()) else " (optional)"
            yield f"<tr><td><code>{escape(field)}</code>{must}</td><td>{_type(kind)}</td></tr>"
        yield "</table>"
    if schema.get("examples"):
        yield f"<details><summary>Example</summary><pre>{_json(schema['examples'][0])}</pre></details>"
    yield "</article>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to those that have a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        text = f"list of {_type(schema.get('items', {}))}"
    else:
        text = escape(f"{kind} ({schema['format']})" if "format" in schema else kind)
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minLength", "at least"),
            ("maxLength", "at most"),
            ("minItems", "at least"),
            ("maxItems", "at most"),
            ("minimum", "from"),
            ("maximum", "to"),
            ("default", "default"),
        )
        if key in schema
    ]
    return f"{text}, {escape(', '.join(bounds))}" if bounds else text


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.strip().split("\n\n") if paragraph)


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
