"""The environment of a command: the process's own, with a `.env` file of the working directory underneath."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from lac.errors import ConfigError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def command_environment(directory: Path | None = None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What settings are read from. A variable of the process wins over the same one in `.env`."""
    own = os.environ if environ is None else environ
    path = (directory or Path()) / ".env"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return dict(own)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return {**parse_env_file(text, name=str(path)), **own}


def parse_env_file(text: str, *, name: str = ".env") -> dict[str, str]:
    """NAME=value lines. `#` begins a comment; quotes keep one inside; double quotes also know \\n, \\" and \\\\.

    Nothing is expanded: a password with a `$` in it is that password. Raises `ConfigError` with the line's number.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"{name}, line {number}: this is not NAME=value.")
        try:
            values[match[1]] = _value(match[2])
        except ValueError as error:
            raise ConfigError(f"{name}, line {number}: {match[1]} {error}.") from None
    return values


def _value(raw: str) -> str:
    if raw[:1] not in ("'", '"'):
        return re.split(r"\s#|^#", raw, maxsplit=1)[0].strip()
    pattern = r"'([^']*)'" if raw[0] == "'" else r'"((?:[^"\\]|\\.)*)"'
    match = re.fullmatch(pattern + r"\s*(?:#.*)?", raw)
    if match is None:
        raise ValueError("has a quote that does not close")
    if raw[0] == "'":
        return match[1]
    return re.sub(r"\\.", lambda escape: _ESCAPES.get(escape[0], escape[0]), match[1])
