from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from lac_web.logging import configure_logging

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def written(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_both_kinds_of_loggers_write_one_json_line_each() -> None:
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    configure_logging(json=True, stream=stream)
    structlog.get_logger("ours").info("joined", broadcast="b1")
    logging.getLogger("theirs").warning("careful: %s", "hot")
    ours, theirs = written(stream)
    assert (ours["event"], ours["broadcast"], ours["level"], ours["logger"]) == ("joined", "b1", "info", "ours")
    assert (theirs["event"], theirs["level"]) == ("careful: hot", "warning")


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_is_written(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logging(json=as_json, stream=stream)
    log = structlog.get_logger()
    log.info(
        "in a field", token=JWT, stream_key="s3cret", headers={"Authorization": "Bearer s3cret"}, offer_sdp="s3cret"
    )
    log.info(f"in a text {JWT}, Authorization: Bearer s3cret, /ws?token=s3cret&x=1")
    log.info("in a list", urls=["postgresql://lac:s3cret@db/lac"])
    logging.getLogger("theirs").error("elsewhere %s", JWT)
    try:
        int(JWT)
    except ValueError:
        log.exception("in a traceback")
    assert "s3cret" not in stream.getvalue()
    assert JWT not in stream.getvalue()
    assert "in a traceback" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "postgresql://lac:" in stream.getvalue()


def test_levels_filter_and_libraries_are_quiet() -> None:
    stream = io.StringIO()
    configure_logging(json=True, level="info", stream=stream)
    structlog.get_logger("ours").debug("not this")
    logging.getLogger("hypercorn.error").info("nor this")
    assert stream.getvalue() == ""
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging(level="loud", stream=stream)


@pytest.mark.parametrize("json_lines", [True, False])
def test_what_strangers_choose_begins_no_line_and_orders_no_terminal(json_lines: bool) -> None:
    stream = io.StringIO()
    configure_logging(json=json_lines, stream=stream)
    hostile = "b1\r\n2030-01-01 [info] all is well\x1b[2J\x9b2J\x00"
    structlog.get_logger("ours").warning("refused", broadcast_id=hostile)
    logging.getLogger("theirs").warning("careful: %s", hostile)
    text = stream.getvalue()
    assert len(text.splitlines()) == 2
    assert "all is well" in text
    assert not any(control in text for control in ("\r", "\x1b[2J", "\x9b", "\x00"))


def test_a_traceback_keeps_its_lines() -> None:
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    try:
        int("broken")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    (line,) = written(stream)
    assert "\n" in str(line["exception"])
