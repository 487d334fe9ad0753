"""The states of a peer and every move between them; `PeerCore` makes no other."""

from __future__ import annotations

from enum import Enum

from lac_media.errors import LocalProtocolError


class PeerState(Enum):
    #: Known to nobody yet: neither the remote DTLS parameters nor an authenticated check.
    NEW = "new"
    #: The remote DTLS parameters are here; no authenticated check yet.
    CHECKING = "checking"
    #: An authenticated check is here; no remote DTLS parameters yet.
    REACHED = "reached"
    #: Both are here: DTLS is under way.
    HANDSHAKING = "handshaking"
    #: SRTP keys are in place.
    CONNECTED = "connected"
    CLOSED = "closed"


class PeerInput(Enum):
    REMOTE_PARAMETERS = "remote parameters"
    ADDRESS_PROVEN = "address proven"
    KEYS_READY = "keys ready"
    CLOSE = "close"


_S, _I = PeerState, PeerInput
TRANSITIONS: dict[tuple[PeerState, PeerInput], PeerState] = {
    (_S.NEW, _I.REMOTE_PARAMETERS): _S.CHECKING,
    (_S.NEW, _I.ADDRESS_PROVEN): _S.REACHED,
    (_S.CHECKING, _I.ADDRESS_PROVEN): _S.HANDSHAKING,
    (_S.REACHED, _I.REMOTE_PARAMETERS): _S.HANDSHAKING,
    (_S.REACHED, _I.ADDRESS_PROVEN): _S.REACHED,
    (_S.HANDSHAKING, _I.ADDRESS_PROVEN): _S.HANDSHAKING,
    (_S.HANDSHAKING, _I.KEYS_READY): _S.CONNECTED,
    (_S.CONNECTED, _I.ADDRESS_PROVEN): _S.CONNECTED,
    **{(state, _I.CLOSE): _S.CLOSED for state in PeerState},
}


def next_state(state: PeerState, given: PeerInput) -> PeerState:
    """Raises `LocalProtocolError` for a move that is not in the table."""
    try:
        return TRANSITIONS[state, given]
    except KeyError:
        raise LocalProtocolError(f"{given.value} does not fit a peer that is {state.value}") from None
