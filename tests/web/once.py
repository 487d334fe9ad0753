"""What costs more than a test and is the same in all of them: made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from quart.routing import QuartRule
from sqlalchemy.pool import ConnectionPoolEntry

import lac_web.app
from lac.config import Settings
from lac.db.engine import SQLITE_THREADS, Database, create_engines
from lac_web.app import WebApp
from lac_web.static_site import load_site

_Builder = Callable[..., tuple[str, str]]
_compiled: dict[tuple[Any, ...], _Builder] = {}


class _RememberedRule(QuartRule):
    """Werkzeug compiles two functions for each of the hundred rules, from nothing but what is in the key, and binds
    them to the rule afterwards. It has no public switch for that."""

    def _compile_builder(self, append_unknown: bool = True) -> _Builder:
        key = (self.rule, tuple(self._trace), repr(self.defaults), append_unknown)
        if key not in _compiled:
            _compiled[key] = super()._compile_builder(append_unknown)
        return _compiled[key]


@contextmanager
def assembled_once() -> Iterator[None]:
    """Applications that are made meanwhile share their rules' code and the packed files of the web client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WebApp, "url_rule_class", _RememberedRule)
        patch.setattr(lac_web.app, "load_site", cache(load_site))
        yield


class Engines:
    """Both engines of `lac.db.engine`, kept from file to file: an engine remembers the SQL that it has compiled."""

    def __init__(self, template: Settings) -> None:
        self._engines = create_engines(template)
        self._file: Path | None = None
        for engine in self._engines:
            sa.event.listen(engine, "do_connect", self._connect)

    def _connect(self, _dialect: sa.Dialect, _record: ConnectionPoolEntry, args: list[Any], _more: Any) -> None:
        assert self._file is not None, "no test is on"
        args[0] = str(self._file)

    @contextmanager
    def open(self, file: Path) -> Iterator[Database]:
        """The migrated database there."""
        self._file = file
        writer, reader = self._engines
        try:
            yield Database(writer, reader, threads=SQLITE_THREADS)
        finally:
            self._file = None
            writer.dispose()
            reader.dispose()
