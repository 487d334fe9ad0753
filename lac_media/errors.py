"""What can go wrong in the media plane, by whose fault it is."""


class MediaError(Exception):
    """Base of everything `lac_media` raises on purpose."""


class ParseError(MediaError, ValueError):
    """Bytes or text from outside do not have the form they claim. The message says where and why."""


class RemoteProtocolError(MediaError):
    """The remote peer broke the protocol: count it, drop the packet, perhaps the peer."""


class LocalProtocolError(MediaError):
    """We were asked for something impossible in the present state: our bug, or the caller's."""


class TransportUsedUpError(LocalProtocolError):
    """This transport can take no further consumer; another one can."""


class SessionClosedError(MediaError):
    """The session has ended; nothing more can be asked of it."""


class UnsupportedMediaError(MediaError):
    """The peer offers nothing that we can take: no Opus, no common SRTP profile, an unusable fingerprint."""


class EngineStartError(MediaError):
    """The media socket could not be opened. The message names the address and what to change."""


class UnknownProducerError(MediaError):
    """There is no such producer, or it has ended."""


class UnknownConsumerError(MediaError):
    """There is no such consumer, or it has been closed."""


class HlsRequestError(MediaError):
    """A playlist that cannot be meant."""


class HlsBusyError(MediaError):
    """As many requests wait as may."""


class HlsTimeoutError(MediaError):
    """What was waited for did not come."""


class StreamsFullError(MediaError):
    """No more plain streams can be opened just now. `here`: from this address."""

    def __init__(self, message: str, *, here: bool) -> None:
        super().__init__(message)
        self.here = here
