"""Which parts of a growing file go up, in which order, and what happens to them when the file changes."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lac.storage.objects import MIN_PART_BYTES, StoredPart
from lac.storage.parts import Journal, PartPlan, SentPart, etags_of, parse_journal_untrusted

MIB = 1 << 20


def send_all(plan: PartPlan, size: int, *, closed: bool) -> None:
    while part := plan.next_part(size, closed=closed):
        plan.take(part, f"md5-{part.number}", f"etag-{part.number}")


@given(st.lists(st.integers(0, 40 * MIB), max_size=8))
def test_the_parts_are_the_file_whatever_way_it_grew(sizes: list[int]) -> None:
    plan = PartPlan()
    for size in sorted(sizes):
        send_all(plan, size, closed=False)
        assert all(part.size == plan.part_size(part.number) for part in plan.sent)
        assert 0 <= size - plan.sent_bytes < plan.part_size(len(plan.sent) + 1)
    send_all(plan, max(sizes, default=0), closed=True)
    assert plan.sent_bytes == max(sizes, default=0)
    assert all(part.size >= MIN_PART_BYTES for part in plan.sent[:-1]), "S3 takes only the last one small"


def test_ten_thousand_parts_last_for_longer_than_a_show_does() -> None:
    plan = PartPlan()
    assert sum(plan.part_size(number) for number in range(1, 10_001)) > 330e9
    assert plan.part_size(1) == MIN_PART_BYTES


def test_an_end_that_grew_is_sent_again() -> None:
    plan = PartPlan()
    send_all(plan, 6 * MIB, closed=True)
    assert [part.size for part in plan.sent] == [5 * MIB, MIB]
    again = plan.next_part(7 * MIB, closed=True)
    assert again is not None
    assert (again.number, again.start, again.size) == (2, 5 * MIB, 2 * MIB)


def test_only_parts_that_both_sides_have_are_believed() -> None:
    def plan() -> PartPlan:
        return PartPlan([SentPart(number, 5 * MIB, f"md5-{number}", f"etag-{number}") for number in (1, 2, 3)])

    def digest(start: int, size: int) -> str | None:
        return f"md5-{start // (5 * MIB) + 1}"

    stored = [StoredPart(number, 5 * MIB, f"etag-{number}") for number in (1, 2, 3)]
    assert plan().keep_matching(digest, stored) == 0
    assert plan().keep_matching(digest) == 0
    assert plan().keep_matching(digest, stored[:1]) == 2
    assert plan().keep_matching(digest, [StoredPart(1, 1, "etag-1"), *stored[1:]]) == 3
    assert plan().keep_matching(lambda start, size: None if start else "md5-1", stored) == 2, "the file is shorter now"
    kept = plan()
    kept.keep_matching(lambda start, size: digest(start, size) if start < 10 * MIB else "changed", stored)
    assert [part.number for part in kept.sent] == [1, 2]


def test_the_entity_tag_of_amazon_and_that_of_others() -> None:
    first, second = b"a" * 10, b"b" * 3
    hashes = [hashlib.md5(part, usedforsecurity=False) for part in (first, second)]
    whole = hashlib.md5(first + second, usedforsecurity=False).hexdigest()
    joined = hashlib.md5(hashes[0].digest() + hashes[1].digest(), usedforsecurity=False).hexdigest()
    assert etags_of([one.hexdigest() for one in hashes], whole) == {f"{joined}-2", whole}


@given(st.binary(max_size=300))
def test_a_journal_that_a_crash_left_is_read_or_not(data: bytes) -> None:
    parse_journal_untrusted(data)


def test_a_journal_with_a_hole_is_not_believed() -> None:

    part = SentPart(2, 5, "m", "e")
    assert parse_journal_untrusted(msgspec.json.encode(Journal("k", "u", (part,)))) is None
    whole = Journal("k", "u", (SentPart(1, 5, "m", "e"), part))
    assert parse_journal_untrusted(msgspec.json.encode(whole)) == whole
