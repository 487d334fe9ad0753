"""The text frames of `/ws`, without I/O: what a client sent becomes a command or a refusal that names the mistake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import msgspec

from lac.rooms.commands import COMMANDS, Command, Join
from lac.rooms.events import CloseCode, Event
from lac.rooms.values import Value

MAX_FRAME_BYTES = 16 * 1024
ACK_MAX = 2**31
#: Frames a client may send at once, and then per second.
FRAME_BURST = 40
FRAMES_PER_S = 10.0

_Ack = Annotated[int, msgspec.Meta(ge=0, le=ACK_MAX)]
_NO_DATA = msgspec.Raw(b"{}")


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    event: str
    data: msgspec.Raw = _NO_DATA
    ack: _Ack | None = None


_envelopes = msgspec.json.Decoder(_Envelope)
_commands: dict[str, msgspec.json.Decoder[Command]] = {
    name: msgspec.json.Decoder(command) for name, command in COMMANDS.items()
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One command, and the number its sender wants to see in the answer."""

    command: Command
    ack: int | None


class FrameError(Exception):
    """A frame that cannot be taken. `code` is for programs, `message` for people; `ack` as far as it could be read.
    With a `close_code` the connection cannot go on."""

    def __init__(self, code: str, message: str, *, ack: int | None = None, close_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.ack = ack
        self.close_code = close_code


def parse_frame_untrusted(text: str | bytes | None) -> Frame:
    """One received message. Raises `FrameError`, nothing else."""
    if not isinstance(text, str):
        raise FrameError("not_text", "Send text frames with JSON in them; binary frames mean nothing here.")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise FrameError("not_json", "The frame is not valid Unicode.") from None
    if len(raw) > MAX_FRAME_BYTES:
        raise FrameError(
            "too_large",
            f"A frame may have {MAX_FRAME_BYTES} bytes; this one has {len(raw)}.",
            close_code=CloseCode.TOO_LARGE,
        )
    try:
        envelope = _envelopes.decode(raw)
    except msgspec.ValidationError as error:
        raise FrameError("bad_frame", _with_field(error, ""), ack=_salvage_ack(raw)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError("not_json", f"The frame is not JSON: {error}") from None
    decoder = _commands.get(envelope.event)
    if decoder is None:
        raise FrameError(
            "unknown_event",
            f"There is no command {envelope.event[:64]!r}. Known: {', '.join(COMMANDS)}.",
            ack=envelope.ack,
        )
    try:
        return Frame(decoder.decode(envelope.data), envelope.ack)
    except msgspec.ValidationError as error:
        raise FrameError("bad_data", f"{envelope.event}: {_with_field(error, 'data')}", ack=envelope.ack) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameError("not_json", f"The frame is not JSON: {error}", ack=envelope.ack) from None


def parse_first_frame_untrusted(text: str | bytes | None) -> tuple[Join, int | None]:
    """The first message, which has to be `join`: whatever else it is ends the connection. Raises `FrameError`, always
    with a `close_code`."""
    try:
        frame = parse_frame_untrusted(text)
    except FrameError as error:
        error.close_code = error.close_code or CloseCode.POLICY
        raise
    if not isinstance(frame.command, Join):
        raise FrameError("join_first", "The first frame has to be join.", ack=frame.ack, close_code=CloseCode.POLICY)
    return frame.command, frame.ack


def encode_ack(ack: int, data: Event | Value | None) -> bytes:
    """The answer to a command that asked for one; `{}` as data where there is nothing to tell."""
    return msgspec.json.encode({"event": "ack", "ack": ack, "data": {} if data is None else data})


def encode_error(code: str, message: str, *, ack: int | None = None, retry_after_s: float | None = None) -> bytes:
    data: dict[str, object] = {"code": code, "message": message}
    if retry_after_s is not None:
        data["retryAfterMs"] = math.ceil(retry_after_s * 1000)
    if ack is None:
        return msgspec.json.encode({"event": "error", "data": data})
    return msgspec.json.encode({"event": "error", "ack": ack, "data": data})


class FrameBudget:
    """A token bucket: `burst` frames at once, then `per_s`. Reads no clock; `now` is monotonic seconds."""

    __slots__ = ("_burst", "_left", "_per_s", "_updated_at")

    def __init__(self, burst: int = FRAME_BURST, per_s: float = FRAMES_PER_S, *, now: float) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._left = float(burst)
        self._updated_at = now

    def take(self, now: float) -> bool:
        """Whether one more frame may come now; counts it if so."""
        self._left = min(self._burst, self._left + max(0.0, now - self._updated_at) * self._per_s)
        self._updated_at = max(self._updated_at, now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _with_field(error: msgspec.ValidationError, root: str) -> str:
    """msgspec's message, with the path as a client writes it: `data.text` for `$.text`."""
    message = str(error)
    return message.replace("`$.", f"`{root}." if root else "`").replace("`$`", f"`{root}`" if root else "the frame")


def _salvage_ack(raw: bytes) -> int | None:
    """The ack of a frame whose rest is wrong, if it is one."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    ack = value.get("ack") if isinstance(value, dict) else None
    return ack if type(ack) is int and 0 <= ack <= ACK_MAX else None


@lru_cache(maxsize=64)
def encode_text_frame(payload: bytes) -> bytes:
    """An unmasked, final, uncompressed text frame, as servers send it (RFC 6455 section 5.2).

    Cached: the frames of a room are offered to its sockets one after the other.
    """
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
