"""What is left to do of a DTLS 1.2 association once its handshake is over: read the peer's alerts, write our goodbye.

An OpenSSL connection costs about 90 KiB, and WebRTC audio needs no more of it after the handshake than one encrypted
alert each way. So the keys of the record layer are derived here a second time, from what OpenSSL is willing to tell
(RFC 5246 section 6.3), and the connection itself can go. Sans-IO.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

CONTENT_CHANGE_CIPHER_SPEC = 20
CONTENT_ALERT = 21
CONTENT_HANDSHAKE = 22
RECORD_HEADER_LENGTH = 13
VERSION_1_2 = 0xFEFD
LEVEL_WARNING, LEVEL_FATAL = 1, 2
CLOSE_NOTIFY = 0
TAG_LENGTH = 16
#: Of our goodbye, the only record that we number ourselves: above whatever OpenSSL may have sent in epoch 1.
GOODBYE_SEQUENCE = 1 << 16

_MESSAGE_HEADER_LENGTH = 12
#: RFC 5246 section 7.4, RFC 6347 section 4.3.2, and what extensions have added: tickets, chains' status, and so on.
_MESSAGE_TYPES = frozenset({0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20, 21, 22, 23})
#: Far more than a chain of certificates.
_MAX_MESSAGE = 1 << 16

_HEADER = Struct("!BHHHLH")  # type, version, epoch, sequence (16 + 32 bits), length
_ASSOCIATED = Struct("!QBHH")  # epoch and sequence, type, version, length of the plaintext (RFC 5246 section 6.2.3.3)


@dataclass(frozen=True, slots=True)
class Record:
    """One DTLS record (RFC 6347 section 4.1). `number` is epoch and sequence as one, 64 bits."""

    content: int
    version: int
    number: int
    fragment: bytes

    @property
    def epoch(self) -> int:
        return self.number >> 48


def split_records_untrusted(data: bytes) -> Iterator[Record]:
    """The records of a datagram, up to the first one that is cut short. Raises nothing."""
    position = 0
    while position + RECORD_HEADER_LENGTH <= len(data):
        content, version, epoch, high, low, length = _HEADER.unpack_from(data, position)
        position += RECORD_HEADER_LENGTH
        if position + length > len(data):
            return
        yield Record(content, version, epoch << 48 | high << 32 | low, data[position : position + length])
        position += length


def is_plausible(record: Record) -> bool:
    """Whether this can be a record of a handshake: one that cannot would spoil OpenSSL's connection for good.

    Looks at handshake messages in the clear only; their fragments must fit the record and the message they belong to
    (RFC 6347 section 4.2.2).
    """
    if record.content != CONTENT_HANDSHAKE or record.epoch != 0:
        return True
    data, position = record.fragment, 0
    while position < len(data):
        if position + _MESSAGE_HEADER_LENGTH > len(data):
            return False
        length = int.from_bytes(data[position + 1 : position + 4], "big")
        offset = int.from_bytes(data[position + 6 : position + 9], "big")
        here = int.from_bytes(data[position + 9 : position + 12], "big")
        position += _MESSAGE_HEADER_LENGTH + here
        if data[position - here - _MESSAGE_HEADER_LENGTH] not in _MESSAGE_TYPES or length > _MAX_MESSAGE:
            return False
        if offset + here > length or position > len(data):
            return False
    return len(data) > 0


@dataclass(frozen=True, slots=True)
class _Suite:
    aead: Callable[[bytes], AESGCM | ChaCha20Poly1305]
    key_length: int
    #: The part of the nonce that comes from the handshake; what is missing to 12 bytes goes along with each record.
    iv_length: int


_AES_128 = _Suite(AESGCM, 16, 4)
_AES_256 = _Suite(AESGCM, 32, 4)
_CHACHA20 = _Suite(ChaCha20Poly1305, 32, 12)


def _suite_of(cipher: str) -> tuple[_Suite, str] | None:
    """By OpenSSL's name of it: the suite and the hash of its PRF. None for one that is not AEAD."""
    if cipher.endswith("-AES128-GCM-SHA256"):
        return _AES_128, "sha256"
    if cipher.endswith("-AES256-GCM-SHA384"):
        return _AES_256, "sha384"
    if cipher.endswith("-CHACHA20-POLY1305"):
        return _CHACHA20, "sha256"
    return None


class SettledAssociation:
    """Both ways of an association's epoch 1, for alerts. Made by `settle`."""

    __slots__ = ("_receive", "_send", "_suite")

    def __init__(self, suite: _Suite, *, send: tuple[bytes, bytes], receive: tuple[bytes, bytes]) -> None:
        self._suite = suite
        self._send = send
        self._receive = receive

    def __repr__(self) -> str:
        return "SettledAssociation()"  # never the keys

    def is_end(self, record: Record) -> bool:
        """Whether this is the peer's close_notify, or a fatal alert of its. False for forgeries and all else."""
        if record.content != CONTENT_ALERT or record.epoch != 1:
            return False
        key, iv = self._receive
        explicit_length = 12 - len(iv)
        size = len(record.fragment) - explicit_length - TAG_LENGTH
        if size != 2:
            return False
        nonce = self._nonce(iv, record.number, record.fragment[:explicit_length])
        associated = _ASSOCIATED.pack(record.number, record.content, record.version, size)
        try:
            level, description = self._suite.aead(key).decrypt(nonce, record.fragment[explicit_length:], associated)
        except InvalidTag:
            return False
        return level == LEVEL_FATAL or description == CLOSE_NOTIFY

    def goodbye(self) -> bytes:
        """Our close_notify as a datagram: always the same bytes, so that no nonce is used for two texts."""
        number = 1 << 48 | GOODBYE_SEQUENCE
        explicit = number.to_bytes(8, "big") if len(self._send[1]) < 12 else b""
        key, iv = self._send
        associated = _ASSOCIATED.pack(number, CONTENT_ALERT, VERSION_1_2, 2)
        alert = bytes((LEVEL_WARNING, CLOSE_NOTIFY))
        fragment = explicit + self._suite.aead(key).encrypt(self._nonce(iv, number, explicit), alert, associated)
        return _HEADER.pack(CONTENT_ALERT, VERSION_1_2, 1, 0, GOODBYE_SEQUENCE, len(fragment)) + fragment

    @staticmethod
    def _nonce(iv: bytes, number: int, explicit: bytes) -> bytes:
        if explicit:
            return iv + explicit  # RFC 5288 section 3
        return (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")  # RFC 7905 section 2


def settle(
    cipher: str | None, *, master_secret: bytes, client_random: bytes, server_random: bytes, is_server: bool
) -> SettledAssociation | None:
    """The association after its handshake; None for a cipher suite that we do not know well enough."""
    known = _suite_of(cipher or "")
    if known is None:
        return None
    suite, digest = known
    k, v = suite.key_length, suite.iv_length
    block = _prf(digest, master_secret, b"key expansion" + server_random + client_random, 2 * (k + v))
    client = block[:k], block[2 * k : 2 * k + v]
    server = block[k : 2 * k], block[2 * k + v :]
    return SettledAssociation(suite, send=server if is_server else client, receive=client if is_server else server)


def _prf(digest: str, secret: bytes, seed: bytes, length: int) -> bytes:
    """P_hash of RFC 5246 section 5; `seed` has the label in front."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, digest)
        out += hmac.digest(secret, a + seed, digest)
    return out[:length]
