from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lac.rooms.commands import COMMANDS, ChatMessage, Join, Leave, Mute
from lac.rooms.events import UserLeft
from lac.rooms.values import MemberPage
from lac_web.gateway.protocol import (
    ACK_MAX,
    MAX_FRAME_BYTES,
    Frame,
    FrameBudget,
    FrameError,
    encode_ack,
    encode_error,
    parse_first_frame_untrusted,
    parse_frame_untrusted,
)


def refused(text: str | bytes | None) -> FrameError:
    with pytest.raises(FrameError) as error:
        parse_frame_untrusted(text)
    return error.value


def test_a_command_with_and_without_ack() -> None:
    frame = parse_frame_untrusted('{"event":"chatMessage","data":{"text":"Grüße"},"ack":7}')
    assert frame == Frame(ChatMessage("Grüße"), 7)
    assert parse_frame_untrusted('{"event":"leave"}') == Frame(Leave(), None)
    assert parse_frame_untrusted('{"event":"mute","data":{"userId":"u1"}}') == Frame(Mute("u1"), None)


@pytest.mark.parametrize(
    ("text", "code", "in_message", "ack"),
    [
        ('{"event":"chatMessage","data":{"text":5},"ack":1}', "bad_data", "data.text", 1),
        ('{"event":"chatMessage","data":{},"ack":1}', "bad_data", "`text`", 1),
        ('{"event":"chatMessage","data":{"text":""},"ack":1}', "bad_data", "data.text", 1),
        ('{"event":"mute","data":{"user_id":"u1"},"ack":1}', "bad_data", "`user_id`", 1),
        ('{"event":"chatMessage","data":[],"ack":1}', "bad_data", "object", 1),
        ('{"event":"dance","ack":1}', "unknown_event", "dance", 1),
        ('{"ack":1}', "bad_frame", "`event`", 1),
        ('{"event":"leave","acks":2,"ack":1}', "bad_frame", "`acks`", 1),
        ('{"event":"leave","ack":-1}', "bad_frame", "`ack`", None),
        ('{"event":"leave","ack":true}', "bad_frame", "`ack`", None),
        ('{"event":"leave","ack":1.5}', "bad_frame", "`ack`", None),
        ('{"event":"leave","ack":"1"}', "bad_frame", "`ack`", None),
        ('{"event":"leave","ack":2147483649}', "bad_frame", "`ack`", None),
        ("[]", "bad_frame", "object", None),
        ("hello", "not_json", "JSON", None),
        ("", "not_json", "JSON", None),
        ('{"event":"leave","data":{}', "not_json", "JSON", None),
        ('{"event":"leave","data":' + "[" * 6000 + "]" * 6000 + "}", "not_json", "recursion", None),
        ("\ud800", "not_json", "Unicode", None),
        (b"{}", "not_text", "text", None),
        (None, "not_text", "text", None),  # how Quart shows an empty binary frame
    ],
)
def test_a_wrong_frame_is_named(text: str | bytes | None, code: str, in_message: str, ack: int | None) -> None:
    error = refused(text)
    assert (error.code, error.ack, error.close_code) == (code, ack, None)
    assert in_message in error.message


def test_a_frame_is_measured_in_bytes() -> None:
    filler = "ü" * (MAX_FRAME_BYTES // 2)
    error = refused(json.dumps({"event": filler}, ensure_ascii=False))
    assert (error.code, error.close_code) == ("too_large", 1009)


def test_the_first_frame_is_join_or_the_end() -> None:
    join, ack = parse_first_frame_untrusted('{"event":"join","data":{"broadcastId":"b1"},"ack":0}')
    assert (join, ack) == (Join("b1"), 0)
    for text in ('{"event":"leave","ack":3}', "{", '{"event":"join","data":{},"ack":3}', "x" * 20_000):
        with pytest.raises(FrameError) as error:
            parse_first_frame_untrusted(text)
        assert error.value.close_code in {1008, 1009}


def test_answers_echo_the_ack() -> None:
    assert json.loads(encode_ack(5, None)) == {"event": "ack", "ack": 5, "data": {}}
    assert json.loads(encode_ack(0, MemberPage([], "c"))) == {
        "event": "ack",
        "ack": 0,
        "data": {"items": [], "nextCursor": "c"},
    }
    assert json.loads(encode_ack(ACK_MAX, UserLeft("u1")))["data"] == {"userId": "u1"}
    assert json.loads(encode_error("no", "Not now.", ack=5)) == {
        "event": "error",
        "ack": 5,
        "data": {"code": "no", "message": "Not now."},
    }
    assert json.loads(encode_error("slow", "Later.", retry_after_s=1.5)) == {
        "event": "error",
        "data": {"code": "slow", "message": "Later.", "retryAfterMs": 1500},
    }


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_anything_raises_only_frame_errors(text: str | bytes) -> None:
    with pytest.raises(FrameError):
        parse_frame_untrusted(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(event=st.sampled_from(sorted(COMMANDS)) | st.text(max_size=10), data=_json, ack=_json)
def test_any_json_in_the_right_places_is_a_command_or_a_frame_error(event: str, data: object, ack: object) -> None:
    try:
        frame = parse_frame_untrusted(json.dumps({"event": event, "data": data, "ack": ack}))
    except FrameError:
        return
    assert type(frame.command) is COMMANDS[event]
    assert frame.ack == ack


@given(text=st.text(min_size=1, max_size=200), ack=st.none() | st.integers(0, ACK_MAX))
def test_what_was_encoded_is_parsed(text: str, ack: int | None) -> None:
    command = ChatMessage(text)
    frame = msgspec.json.encode({"event": "chatMessage", "data": command, "ack": ack}).decode()
    assert parse_frame_untrusted(frame) == Frame(command, ack)


def test_the_budget_allows_a_burst_and_then_a_rate() -> None:
    budget = FrameBudget(burst=3, per_s=10, now=100.0)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert budget.take(100.05) is False
    assert budget.take(100.11) is True
    assert budget.take(99.0) is False  # a clock that goes back gives nothing
    assert [budget.take(200.0) for _ in range(4)] == [True, True, True, False]  # never more than the burst
