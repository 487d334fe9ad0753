"""DTLS in memory: both roles, every way of closing, and what is left when OpenSSL's connection has gone."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from lac_media.certificate import DtlsIdentity, make_dtls_identity
from lac_media.errors import LocalProtocolError, RemoteProtocolError, UnsupportedMediaError
from lac_media.parameters import DtlsRole, Fingerprint
from lac_media.proto.dtls import (
    FIRST_RETRANSMIT_S,
    MAX_RESTARTS,
    MAX_RETRANSMIT_S,
    MIN_RESEND_S,
    MTU,
    DtlsConnection,
    fingerprint_of,
)
from lac_media.proto.dtls_records import is_plausible, split_records_untrusted
from lac_media.proto.srtp import SrtpSession
from tests.fakes.link import identity

SERVER, CLIENT = DtlsRole.SERVER, DtlsRole.CLIENT
ROLES = pytest.mark.parametrize("role", [SERVER, CLIENT])
AEAD = [b"ECDHE-ECDSA-AES128-GCM-SHA256", b"ECDHE-ECDSA-AES256-GCM-SHA384", b"ECDHE-ECDSA-CHACHA20-POLY1305"]
CBC = b"ECDHE-ECDSA-AES128-SHA256"
GARBAGE_MESSAGE = bytes.fromhex("16 fefd 0000 000000000009 0014 01 000008 0000 000000 000008") + bytes(8)


def make_pair(server: DtlsIdentity | None = None) -> tuple[DtlsConnection, DtlsConnection]:
    ours, theirs = server or identity(0), identity(1)
    return (
        DtlsConnection(ours.context, SERVER, (theirs.fingerprint,)),
        DtlsConnection(theirs.context, CLIENT, (ours.fingerprint,)),
    )


def exchange(server: DtlsConnection, client: DtlsConnection, now: float = 10.0) -> int:
    """Carry datagrams to and fro until both are quiet; returns how many."""
    carried = 0
    while True:
        to_client, to_server = list(server.datagrams_to_send()), list(client.datagrams_to_send())
        if not to_client and not to_server:
            return carried
        carried += len(to_client) + len(to_server)
        for data in to_client:
            client.receive_datagram(data, now=now)
        for data in to_server:
            server.receive_datagram(data, now=now)


def connect(server: DtlsConnection, client: DtlsConnection) -> None:
    server.start(now=10.0)
    client.start(now=10.0)
    exchange(server, client)
    assert server.keys is not None
    assert client.keys is not None


def identity_with(cipher: bytes) -> DtlsIdentity:
    limited = make_dtls_identity()
    limited.context._context.set_cipher_list(cipher)
    return limited


class RawPeer:
    """The other end as OpenSSL alone would be."""

    def __init__(self, role: DtlsRole) -> None:
        self.connection = identity(1).context.new_connection(role)

    def step(self) -> list[bytes]:
        with contextlib.suppress(SSL.WantReadError):
            self.connection.do_handshake()
        try:
            return [self.connection.bio_read(65536)]
        except SSL.WantReadError:
            return []


def connect_raw(ours: DtlsConnection, raw: RawPeer) -> None:
    ours.start(now=10.0)
    for _ in range(6):
        for data in raw.step():
            ours.receive_datagram(data, now=10.0)
        for data in ours.datagrams_to_send():
            raw.connection.bio_write(data)
    raw.step()
    assert ours.keys is not None


def fragments(datagram: bytes, size: int) -> list[bytes]:
    """One handshake message in one record, cut into two fragments in a record each (RFC 6347 section 4.2.3)."""
    message_type_to_sequence, body = datagram[13:19], datagram[25:]
    records = []
    for number, (offset, part) in enumerate([(0, body[:size]), (size, body[size:])]):
        message = message_type_to_sequence + offset.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part
        records.append(datagram[:10] + bytes([number]) + len(message).to_bytes(2, "big") + message)
    return records


def other_role(role: DtlsRole) -> DtlsRole:
    return CLIENT if role is SERVER else SERVER


def test_both_ends_derive_keys_that_fit() -> None:
    server, client = make_pair()
    connect(server, client)
    assert server.keys is not None
    assert client.keys is not None
    a, b = SrtpSession(server.keys), SrtpSession(client.keys)
    packet = bytes.fromhex("80640001000003c000000007") + b"audio"
    assert b.unprotect(a.protect(packet)) == packet
    assert a.unprotect(b.protect(packet)) == packet
    assert server.keys.profile.name == "AEAD_AES_128_GCM"
    assert "AES" in repr(server.keys)
    assert server.keys.send.hex() not in repr(server.keys)


def test_the_role_must_be_decided() -> None:
    with pytest.raises(LocalProtocolError):
        DtlsConnection(identity(0).context, DtlsRole.AUTO, ())


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-384", "sha-512"])
def test_fingerprints_of_every_supported_hash_are_accepted(algorithm: str) -> None:
    server, client = make_pair()
    certificate = identity(1).context.new_connection(CLIENT).get_certificate(as_cryptography=True)
    assert certificate is not None
    lower = fingerprint_of(certificate, algorithm).value.lower()
    server._remote_fingerprints = (Fingerprint(algorithm, lower),)
    connect(server, client)


def test_sha1_is_not_a_fingerprint() -> None:
    certificate = identity(1).context.new_connection(CLIENT).get_certificate(as_cryptography=True)
    assert certificate is not None
    with pytest.raises(UnsupportedMediaError, match="sha-1"):
        fingerprint_of(certificate, "sha-1")


# Retransmission


def test_the_flight_is_repeated_ever_more_slowly_without_an_answer() -> None:
    _, client = make_pair()
    client.start(now=100.0)
    [hello] = client.datagrams_to_send()
    waits, now = [], 100.0
    for _ in range(6):
        waits.append(round(client.timer_at() - now, 3))
        now = client.timer_at()
        client.handle_timer(now=now - 0.001)
        assert list(client.datagrams_to_send()) == [], "early is a no-op"
        client.handle_timer(now=now)
        assert list(client.datagrams_to_send()) == [hello]
    assert waits == [FIRST_RETRANSMIT_S, 0.3, 0.6, 1.2, MAX_RETRANSMIT_S, MAX_RETRANSMIT_S]


def test_a_repeated_client_hello_brings_the_servers_flight_again_but_not_in_a_flood() -> None:
    server, client = make_pair()
    server.start(now=10.0)
    client.start(now=10.0)
    [hello] = client.datagrams_to_send()
    server.receive_datagram(hello, now=10.0)
    flight = list(server.datagrams_to_send())
    assert flight
    for _ in range(50):
        server.receive_datagram(hello, now=10.0 + MIN_RESEND_S / 2)
    assert list(server.datagrams_to_send()) == []
    server.receive_datagram(hello, now=10.0 + MIN_RESEND_S)
    assert list(server.datagrams_to_send()) == flight


def test_the_last_flight_is_repeated_by_the_side_that_spoke_last_and_by_no_other() -> None:
    server, client = make_pair()
    server.start(now=10.0)
    client.start(now=10.0)
    for data in client.datagrams_to_send():
        server.receive_datagram(data, now=10.0)
    for data in server.datagrams_to_send():
        client.receive_datagram(data, now=10.0)
    clients_last = list(client.datagrams_to_send())
    for data in clients_last:
        server.receive_datagram(data, now=10.0)
    servers_last = list(server.datagrams_to_send())
    assert server.keys is not None

    for data in clients_last:  # the server's answer was lost
        server.receive_datagram(data, now=11.0)
    again = list(server.datagrams_to_send())
    assert again == servers_last
    for data in again * 3:
        client.receive_datagram(data, now=12.0)
    assert client.keys is not None
    assert list(client.datagrams_to_send()) == []
    assert client.timer_at() == server.timer_at() == float("inf")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_client_hello_in_two_datagrams_is_put_together(order: tuple[int, int]) -> None:
    server, client = make_pair()
    server.start(now=10.0)
    client.start(now=10.0)
    [hello] = client.datagrams_to_send()
    records = fragments(hello, 100)
    server.receive_datagram(records[order[0]], now=10.0)
    assert list(server.datagrams_to_send()) == []
    server.receive_datagram(records[order[1]], now=10.0)
    assert list(server.datagrams_to_send())


def test_no_datagram_exceeds_the_mtu() -> None:
    server, client = make_pair()
    server.start(now=10.0)
    client.start(now=10.0)
    for _ in range(4):
        to_server, to_client = list(client.datagrams_to_send()), list(server.datagrams_to_send())
        assert all(len(data) <= MTU for data in (*to_server, *to_client))
        for data in to_server:
            server.receive_datagram(data, now=10.0)
        for data in to_client:
            client.receive_datagram(data, now=10.0)


# Damage


def test_damaged_messages_cost_a_restart_each_and_not_more_than_some() -> None:
    server, client = make_pair()
    server.start(now=10.0)
    for number in range(MAX_RESTARTS):
        server.receive_datagram(GARBAGE_MESSAGE, now=10.0)
        assert server._restarts == number + 1
    client.start(now=10.0)
    exchange(server, client)
    assert server.keys is not None

    server, _ = make_pair()
    server.start(now=10.0)
    for _ in range(MAX_RESTARTS):
        server.receive_datagram(GARBAGE_MESSAGE, now=10.0)
    with pytest.raises(RemoteProtocolError):
        server.receive_datagram(GARBAGE_MESSAGE, now=10.0)
    assert any(data[0] == 21 for data in server.datagrams_to_send()), "an alert says why"


@given(st.binary(max_size=1500))
def test_nothing_from_the_network_but_a_media_error_comes_out_before_completion(data: bytes) -> None:
    for role in (SERVER, CLIENT):
        connection = DtlsConnection(identity(0).context, role, (identity(1).fingerprint,))
        connection.start(now=10.0)
        try:
            connection.receive_datagram(data, now=10.0)
            connection.receive_datagram(bytes((22, 0xFE, 0xFD)) + data, now=11.0)
        except RemoteProtocolError:
            pass


@given(st.binary(max_size=200), st.sampled_from([20, 21, 22, 23]), st.integers(0, 2))
def test_nothing_forged_ends_a_settled_association(body: bytes, content: int, epoch: int) -> None:
    server, client = settled_pair()
    record = bytes((content, 0xFE, 0xFD)) + epoch.to_bytes(2, "big") + bytes(6) + len(body).to_bytes(2, "big") + body
    for end in (server, client):
        end.receive_datagram(record, now=20.0)
        end.receive_datagram(body, now=20.0)
        assert not end.peer_closed
        list(end.datagrams_to_send())


_pair: list[tuple[DtlsConnection, DtlsConnection]] = []


def settled_pair() -> tuple[DtlsConnection, DtlsConnection]:
    """One pair for all examples: nothing that they do may change it."""
    if not _pair:
        pair = make_pair()
        connect(*pair)
        _pair.append(pair)
    return _pair[0]


def test_a_goodbye_that_was_tampered_with_is_none() -> None:
    server, client = make_pair()
    connect(server, client)
    client.close()
    [goodbye] = client.datagrams_to_send()
    for position in range(len(goodbye)):
        damaged = bytearray(goodbye)
        damaged[position] ^= 1
        server.receive_datagram(bytes(damaged), now=20.0)
        server.receive_datagram(goodbye[:position], now=20.0)
        assert not server.peer_closed, position
    server.receive_datagram(goodbye, now=20.0)
    assert server.peer_closed


# Goodbye, with every suite and in both roles


@pytest.mark.parametrize("cipher", [*AEAD, CBC])
@ROLES
def test_closing_reaches_the_other_end(cipher: bytes, role: DtlsRole) -> None:
    server, client = make_pair(identity_with(cipher))
    connect(server, client)
    assert (server._connection is None) == (cipher != CBC), "OpenSSL goes where we can do without it"
    closing, other = (server, client) if role is SERVER else (client, server)
    closing.close()
    exchange(server, client)
    assert other.peer_closed
    assert not closing.peer_closed


@ROLES
def test_openssl_understands_our_goodbye(role: DtlsRole) -> None:
    ours, raw = DtlsConnection(identity(0).context, role, (identity(1).fingerprint,)), RawPeer(other_role(role))
    connect_raw(ours, raw)
    ours.close()
    ours.close()
    goodbyes = list(ours.datagrams_to_send())
    assert len(set(goodbyes)) == 1, "one nonce, one text"
    raw.connection.bio_write(goodbyes[0])
    with pytest.raises(SSL.ZeroReturnError):
        raw.connection.recv(100)


@ROLES
def test_we_understand_openssls_goodbye(role: DtlsRole) -> None:
    ours, raw = DtlsConnection(identity(0).context, role, (identity(1).fingerprint,)), RawPeer(other_role(role))
    connect_raw(ours, raw)
    raw.connection.send(b"data that is nobody's")
    ours.receive_datagram(raw.connection.bio_read(65536), now=20.0)
    assert not ours.peer_closed
    raw.connection.shutdown()
    ours.receive_datagram(raw.connection.bio_read(65536), now=20.0)
    assert ours.peer_closed


def test_a_goodbye_before_completion_says_nothing() -> None:
    server, _ = make_pair()
    server.start(now=10.0)
    server.close()
    assert list(server.datagrams_to_send()) == []


# Records


def test_real_flights_are_plausible_and_damaged_lengths_are_not() -> None:
    server, client = make_pair()
    server.start(now=10.0)
    client.start(now=10.0)
    [hello] = client.datagrams_to_send()
    server.receive_datagram(hello, now=10.0)
    flights = [hello, *server.datagrams_to_send()]
    for flight in flights:
        assert all(is_plausible(record) for record in split_records_untrusted(flight))
    rng = random.Random(5)
    implausible = 0
    for _ in range(200):
        body = rng.randbytes(60)
        [record] = split_records_untrusted(hello[:11] + (60).to_bytes(2, "big") + body)
        implausible += not is_plausible(record)
    assert implausible >= 198
