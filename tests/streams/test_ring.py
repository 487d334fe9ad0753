"""Any number of clients read one ring, each at its own pace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lac_media.streams.ring import MAX_READ_BYTES, Cursor, Ring

SECOND = 48_000
QUARTER = SECOND // 4


def filled(count: int, *, header: bytes = b"") -> Ring:
    ring = Ring()
    for number in range(count):
        ring.add(b"%03d" % number, QUARTER, header)
    return ring


def test_a_new_client_gets_a_burst_of_three_seconds_and_then_what_comes() -> None:
    ring = filled(20)
    cursor = Cursor(ring)
    assert cursor.read() == b"".join(b"%03d" % number for number in range(8, 20))
    assert (cursor.read(), cursor.has_more) == (b"", False)
    ring.add(b"new", QUARTER, b"")
    assert (cursor.read(), cursor.skips) == (b"new", 0)


def test_who_comes_first_gets_everything() -> None:
    ring = Ring()
    cursor = Cursor(ring)
    assert cursor.read() == b""
    ring.add(b"first", QUARTER, b"")
    assert cursor.read() == b"first"


def test_a_client_that_is_too_slow_is_moved_forward_and_that_is_counted() -> None:
    ring = filled(4)
    slow, quick = Cursor(ring), Cursor(ring)
    slow.read()
    quick.read()
    for number in range(100):
        ring.add(b"%03d" % number, QUARTER, b"")
        assert quick.read() == b"%03d" % number
    assert slow.read() == b"".join(b"%03d" % number for number in range(88, 100))
    assert (slow.skips, quick.skips) == (1, 0)


def test_what_is_kept_is_bounded_by_what_it_plays() -> None:
    ring = filled(1000)
    assert ring.next_number - ring.first_number == 40
    for _ in range(1000):
        ring.add(b"", 0, b"")
    ring.add(b"x", 20 * SECOND, b"")
    assert ring.next_number - ring.first_number == 1


def test_the_header_comes_first_and_again_when_it_is_another() -> None:
    one, two = b"<one>", b"<two>"
    ring = Ring()
    ring.add(b"a", QUARTER, one)
    cursor = Cursor(ring)
    assert cursor.read() == b"<one>a"
    ring.add(b"b", QUARTER, one)
    assert cursor.read() == b"b"
    ring.add(b"end", 0, one)
    ring.add(b"c", QUARTER, two)
    ring.add(b"d", QUARTER, two)
    assert cursor.read() == b"end<two>cd"
    assert Cursor(ring).read() == b"<one>abend<two>cd"


def test_a_client_that_fell_out_of_the_ring_gets_the_header_that_holds_now() -> None:
    ring = Ring()
    ring.add(b"a", QUARTER, b"<one>")
    cursor = Cursor(ring)
    cursor.read()
    header = b"<two>"
    for _ in range(100):
        ring.add(b"b", QUARTER, header)
    assert cursor.read() == b"<two>" + 12 * b"b"


def test_a_client_is_given_a_bounded_piece_at_a_time_and_loses_nothing_by_it() -> None:
    ring = Ring()
    cursor = Cursor(ring)
    for number in range(10):
        ring.add(bytes([number]) * 30_000, QUARTER, b"")
    pieces = []
    while cursor.has_more:
        pieces.append(cursor.read())
    assert max(map(len, pieces)) <= MAX_READ_BYTES
    assert b"".join(pieces) == b"".join(bytes([number]) * 30_000 for number in range(10))


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=60))
def test_whoever_reads_whenever_gets_chunks_in_order(steps: list[tuple[int, bool]]) -> None:
    ring = Ring()
    cursor = Cursor(ring)
    seen: list[int] = []
    for number, (ticks, reads) in enumerate(steps):
        ring.add(bytes([number]), ticks, b"")
        if reads:
            seen += cursor.read()
    seen += cursor.read()
    assert seen == sorted(set(seen))
    missing = set(range(len(steps))) - set(seen)
    assert not missing or cursor.skips
    assert not steps or seen[-1] == len(steps) - 1
