"""Samples of the real thing, damaged with an eye for what their formats are made of: lengths, flags, lines, members."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

#: Where lengths and counts go wrong.
_BYTES = [0, 1, 2, 3, 4, 0x0F, 0x10, 0x7F, 0x80, 0x81, 0xBE, 0xDE, 0xFC, 0xFE, 0xFF]
_WORDS = [0, 1, 2, 0x00FF, 0x0100, 0x7FFF, 0x8000, 0xBEDE, 0x1000, 0xFFFE, 0xFFFF]
MAX_BYTES = 1500


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with up to six things wrong, or none; sometimes nothing but noise."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=MAX_BYTES))
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 24))
        match draw(st.sampled_from(["flip", "byte", "word", "cut", "drop", "insert", "double", "splice"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if data:
                data[at] = draw(st.sampled_from(_BYTES))
            case "word" if len(data) >= at + 2:
                data[at : at + 2] = draw(st.sampled_from(_WORDS)).to_bytes(2, "big")
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(min_size=length, max_size=length))
            case "double":
                data[at:at] = data[at : at + length]
            case "splice":
                other = draw(st.sampled_from(samples))
                data[at:] = other[draw(st.integers(0, len(other))) :]
            case _:
                pass
    return bytes(data[:MAX_BYTES])


@st.composite
def damaged_text(draw: st.DrawFn, samples: Sequence[str]) -> str:
    """The same for formats made of lines."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.text(max_size=2000))
    lines = draw(st.sampled_from(samples)).split("\n")
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "cut", "edit", "number", "borrow"])):
            case "drop":
                del lines[at : at + draw(st.integers(1, 3))]
                lines = lines or [""]
            case "double":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, 40))]
            case "edit":
                start = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:start] + draw(st.text(max_size=6)) + lines[at][start + 1 :]
            case "number":
                lines[at] = re.sub(r"\d+", str(draw(st.integers(-1, 2**70))), lines[at], count=1)
            case "borrow":
                lines.insert(at, draw(st.sampled_from(draw(st.sampled_from(samples)).split("\n"))))
    return "\n".join(lines)


_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 15, 127, 128, 255, 256, 2**31, 2**32 - 1, 2**32, 2**64, 0.5, 1e300]),
    st.sampled_from(["", "audio/opus", "audio/red", "nack", "auto", "client", "server", "send", "recv", "sha-256"]),
    st.text(max_size=40),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
)


@st.composite
def damaged_json(draw: st.DrawFn, samples: Sequence[Any]) -> bytes:
    """The same for JSON: members lost, doubled, given to others, of another type; at last perhaps no JSON at all."""
    value = json.loads(json.dumps(draw(st.sampled_from(samples))))
    for _ in range(draw(st.integers(0, 5))):
        inside = draw(st.sampled_from(list(_containers(value)) or [None]))
        if not inside:
            value = draw(_VALUES)
            continue
        key = draw(st.sampled_from(list(inside) if isinstance(inside, dict) else range(len(inside))))
        match draw(st.sampled_from(["drop", "replace", "double", "wrap", "rename"])):
            case "drop":
                del inside[key]
            case "replace":
                inside[key] = draw(_VALUES)
            case "double" if isinstance(inside, list):
                inside.extend([inside[key]] * draw(st.sampled_from([1, 8, 130])))
            case "wrap":
                inside[key] = [inside[key]]
            case "rename" if isinstance(inside, dict):
                inside[draw(st.text(max_size=8))] = inside.pop(key)
            case _:
                pass
    data = json.dumps(value).encode()
    return draw(damaged([data])) if draw(st.integers(0, 9)) == 0 else data


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        if value:
            yield value
        for member in value.values() if isinstance(value, dict) else value:
            yield from _containers(member)
