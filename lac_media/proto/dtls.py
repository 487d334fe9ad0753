"""DTLS 1.2 as a sans-IO core over pyOpenSSL's memory buffers, for both roles (RFC 6347, RFC 5764, RFC 8827).

OpenSSL's own retransmission timer reads the wall clock and starts at one second. We keep a clock of our own instead:
the last flight is remembered as bytes and sent again when our deadline passes or when the peer repeats its flight,
which means that ours was lost. Once the handshake is over OpenSSL's part is too: see `dtls_records`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from OpenSSL import SSL

from lac_media.errors import LocalProtocolError, RemoteProtocolError, UnsupportedMediaError
from lac_media.parameters import DtlsRole, Fingerprint
from lac_media.proto.dtls_records import (
    CONTENT_CHANGE_CIPHER_SPEC,
    CONTENT_HANDSHAKE,
    RECORD_HEADER_LENGTH,
    SettledAssociation,
    is_plausible,
    settle,
    split_records_untrusted,
)
from lac_media.proto.srtp import PROFILES, SrtpKeys

#: Largest datagram we send: fits the IPv6 minimum MTU with room for tunnels.
MTU = 1200
FIRST_RETRANSMIT_S = 0.15
MAX_RETRANSMIT_S = 1.6
#: A peer that repeats its flight gets ours again, but not more often than this.
MIN_RESEND_S = 0.05
#: A damaged handshake message makes an OpenSSL connection useless; we begin again this often.
MAX_RESTARTS = 3
SUPPORTED_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha-256": hashes.SHA256,
    "sha-384": hashes.SHA384,
    "sha-512": hashes.SHA512,
}


def fingerprint_of(certificate: x509.Certificate, algorithm: str) -> Fingerprint:
    """The certificate's fingerprint. `UnsupportedMediaError` for a hash other than sha-256, sha-384, sha-512."""
    try:
        digest = certificate.fingerprint(SUPPORTED_HASHES[algorithm]())
    except KeyError:
        raise UnsupportedMediaError(f"fingerprint algorithm {algorithm!r} is not supported") from None
    return Fingerprint(algorithm, digest.hex(":").upper())


class DtlsContext:
    """Our key, certificate and SRTP offer; shared by all connections of a process (making one costs 0.3 ms)."""

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        # Without OP_NO_QUERY_MTU OpenSSL cuts flights into 250-byte pieces; with it, set_ciphertext_mtu is a must.
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # Certificates are self-signed by design: the fingerprint from signalling is what we check (RFC 8827 5.6.4).
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_tlsext_use_srtp(b":".join(PROFILES))
        self._context = context

    def new_connection(self, role: DtlsRole) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        if role is DtlsRole.SERVER:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        connection.set_ciphertext_mtu(MTU)
        return connection


class DtlsConnection:
    """One DTLS association. `role` is ours. Feed it only datagrams from an address that ICE has proven.

    After any input drain `datagrams_to_send()` and re-read `timer_at()`. `keys` is set once the handshake is complete
    and the peer's certificate matches one of `remote_fingerprints`; `peer_closed` once its close_notify has arrived.
    Raises `RemoteProtocolError` or `UnsupportedMediaError` when the association cannot be had; it is then dead.
    """

    def __init__(self, context: DtlsContext, role: DtlsRole, remote_fingerprints: tuple[Fingerprint, ...]) -> None:
        if role is DtlsRole.AUTO:
            raise LocalProtocolError("the DTLS role must be decided before the handshake")
        self._context = context
        self._role = role
        self._remote_fingerprints = remote_fingerprints
        #: None once the handshake is over and `_settled` has taken its place.
        self._connection: SSL.Connection | None = context.new_connection(role)
        self._settled: SettledAssociation | None = None
        self._out: list[bytes] = []
        self._last_flight: list[bytes] = []
        self._flight_sent_at = 0.0
        self._retransmit_s = FIRST_RETRANSMIT_S
        self._retransmit_at = float("inf")
        self._seen_messages: set[bytes] = set()
        self._restarts = 0
        self.keys: SrtpKeys | None = None
        self.peer_closed = False

    def start(self, *, now: float) -> None:
        """Begin: as client send the ClientHello, as server wait for one."""
        self._advance(now)

    def receive_datagram(self, data: bytes, *, now: float) -> None:
        """Feed one DTLS datagram from the proven remote address."""
        if not data:
            return  # pyOpenSSL raises for an empty write
        repeated = self._is_repeated(data)
        if self._settled is not None:
            if any(self._settled.is_end(record) for record in split_records_untrusted(data)):
                self.peer_closed = True
        elif self._connection is not None:
            if self.keys is None:
                if all(is_plausible(record) for record in split_records_untrusted(data)):
                    self._connection.bio_write(data)
                    self._advance(now)
            else:
                self._connection.bio_write(data)
                self._read_records(self._connection)
        if repeated and not self._out:
            self._resend(now)

    def handle_timer(self, *, now: float) -> None:
        """Send the last flight again if its deadline has passed."""
        if self.keys is None and now >= self._retransmit_at:
            self._flight_sent_at = 0.0
            self._resend(now)
            self._retransmit_s = min(self._retransmit_s * 2, MAX_RETRANSMIT_S)
            self._retransmit_at = now + self._retransmit_s

    def timer_at(self) -> float:
        return self._retransmit_at if self.keys is None else float("inf")

    def datagrams_to_send(self) -> Iterator[bytes]:
        out, self._out = self._out, []
        return iter(out)

    def close(self) -> None:
        """Say goodbye: queues a close_notify alert if the handshake is complete."""
        if self._settled is not None:
            self._out.append(self._settled.goodbye())
        elif self.keys is not None and self._connection is not None:
            self._shut_down(self._connection)

    def _shut_down(self, connection: SSL.Connection) -> None:
        try:
            connection.shutdown()
        except SSL.Error:
            return  # the connection is beyond a goodbye
        self._collect(connection)

    def _advance(self, now: float) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._restart(connection, error, now)
            return
        else:
            try:
                self.keys = self._verified_keys(connection)
            except (RemoteProtocolError, UnsupportedMediaError):
                self._shut_down(connection)  # so that the peer need not wait for its timeout
                raise
            self._retransmit_at = float("inf")
        flight = self._collect(connection)
        if flight:
            self._last_flight = flight
            self._flight_sent_at = now
            if self.keys is None:
                self._retransmit_s = FIRST_RETRANSMIT_S
                self._retransmit_at = now + self._retransmit_s
        if self.keys is not None:
            # Our last flight and the peer's goodbye may have come in one read.
            self._read_records(connection)
            self._settle(connection)

    def _settle(self, connection: SSL.Connection) -> None:
        """Let OpenSSL's connection go, which is most of a listener's memory, if we can do the rest without it."""
        self._seen_messages.clear()
        self._settled = settle(
            connection.get_cipher_name(),
            master_secret=connection.master_key() or b"",
            client_random=connection.client_random() or b"",
            server_random=connection.server_random() or b"",
            is_server=self._role is DtlsRole.SERVER,
        )
        if self._settled is not None:
            self._connection = None

    def _restart(self, connection: SSL.Connection, error: SSL.Error, now: float) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            self._collect(connection)  # the alert that says why
            raise RemoteProtocolError(f"DTLS handshake failed: {error}") from error
        self._connection = self._context.new_connection(self._role)
        self._last_flight = []
        self._seen_messages.clear()
        self._retransmit_at = float("inf")
        if self._role is DtlsRole.CLIENT:
            self._advance(now)

    def _read_records(self, connection: SSL.Connection) -> None:
        try:
            while True:
                connection.recv(2048)  # no data channels here: application data is nobody's
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.peer_closed = True
        except SSL.Error:
            self.peer_closed = True  # a fatal alert ends the association as well
        self._collect(connection)

    def _collect(self, connection: SSL.Connection) -> list[bytes]:
        """Move what OpenSSL wants to send to the outbox, cut at record boundaries: the memory BIO glues datagrams."""
        collected: list[bytes] = []
        while True:
            try:
                glued = connection.bio_read(65536)
            except SSL.WantReadError:
                break
            datagram, position = b"", 0
            while position < len(glued):
                length = RECORD_HEADER_LENGTH + int.from_bytes(glued[position + 11 : position + 13], "big")
                if datagram and len(datagram) + length > MTU:
                    collected.append(datagram)
                    datagram = b""
                datagram += glued[position : position + length]
                position += length
            if datagram:
                collected.append(datagram)
        self._out.extend(collected)
        return collected

    def _is_repeated(self, data: bytes) -> bool:
        """Whether this datagram repeats a handshake message we had: the peer did not get our answer."""
        if len(data) < RECORD_HEADER_LENGTH or data[0] not in (CONTENT_HANDSHAKE, CONTENT_CHANGE_CIPHER_SPEC):
            return False
        if self.keys is not None:
            # Any handshake record after the end: the peer lacks our last flight. Only the side whose flight is the last
            # of all answers (RFC 6347 section 4.2.4); were the client to answer too, the two would never stop.
            return self._role is DtlsRole.SERVER
        if len(data) < RECORD_HEADER_LENGTH + 12:
            return False
        if data[3:5] != b"\0\0":
            return False  # encrypted: not to be told apart from a first Finished
        # message_seq and fragment_offset (RFC 6347 section 4.2.2) name one fragment.
        key = data[RECORD_HEADER_LENGTH + 4 : RECORD_HEADER_LENGTH + 9]
        if key in self._seen_messages:
            return True
        if len(self._seen_messages) < 64:
            self._seen_messages.add(key)
        return False

    def _resend(self, now: float) -> None:
        if self._last_flight and now - self._flight_sent_at >= MIN_RESEND_S:
            self._out.extend(self._last_flight)
            self._flight_sent_at = now

    def _verified_keys(self, connection: SSL.Connection) -> SrtpKeys:
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise RemoteProtocolError("the peer sent no certificate")
        if not any(_matches(certificate, fingerprint) for fingerprint in self._remote_fingerprints):
            raise RemoteProtocolError("the peer's certificate is not the one announced in signalling")
        # With no profile in common the handshake succeeds all the same, and this is empty.
        name = connection.get_selected_srtp_profile()
        if name not in PROFILES:
            raise UnsupportedMediaError("no SRTP profile in common")
        profile = PROFILES[name]
        material = connection.export_keying_material(b"EXTRACTOR-dtls_srtp", profile.keying_material_length)
        return SrtpKeys.from_keying_material(profile, material, is_server=self._role is DtlsRole.SERVER)


def _matches(certificate: x509.Certificate, fingerprint: Fingerprint) -> bool:
    if fingerprint.algorithm not in SUPPORTED_HASHES:
        return False
    ours = fingerprint_of(certificate, fingerprint.algorithm).value
    return hmac.compare_digest(ours.encode(), fingerprint.value.upper().encode())
