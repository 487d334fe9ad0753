"""The end of a mix: an encoder that listens to what a decoder makes of its packets.

The limiter bounds what goes into the encoder. What comes out of decoders is that and the encoder's error, which is as
loud as 10 to 50 % of full scale in loud and noisy places: enough to clip. How large it is nobody knows before a
packet is made. So each loud packet is decoded here too, and made once more, softer, if it is too loud.

A packet's first 2.5 ms have its own error and that of the packet before, which is gone by then. Thus a packet that ends
loud is also tried with a following one, made up by playing it backwards, with more bits: what remains is its own share.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from lac_media.mix.timescale import ramp
from lac_media.opus import Decoder, Encoder, Pcm
from lac_media.opus.library import APPLICATION_LOW_DELAY

#: Transparent for several voices, good for music.
BITRATE_BPS = 96_000
#: So often a packet is made again; the last times with more bits, for the error that turning down does not change.
MAX_REPEATS = 7
REPEATS_WITH_MORE_BITS = 4
MORE_BITS_BPS = 192_000
#: No sample that decoders make of a packet is to be above this,
LOUDEST = 0.98
#: nor above this in the first 2.5 ms of the next packet, as far as that can be said.
LOUDEST_AFTER = 0.91
#: Of a frame with no sample above this no decoder makes one above full scale: errors are not that large.
HARMLESS = 0.5
#: Once turned down a frame comes back to full strength by this much a frame: 3 dB in about an eighth of a second.
RELEASE = 0.05
#: Turned down by no more than this at once: beyond that the error is not one of loudness.
_MAX_STEP = 0.6
#: And by this more than the excess seems to ask for.
_UNDERSHOOT = 0.98
#: The encoder's overlap from one packet to the next.
OVERLAP = 120
#: A decoder that has heard these is as good as one that has heard all (RFC 7845 section 4.2: 80 ms).
WARM_UP_PACKETS = 5


class _Attempt(NamedTuple):
    """`excess` is how many times louder than allowed decoders play it. The states are those after it."""

    excess: float
    gain: float
    payload: bytes
    encoder: bytes
    decoder: bytes


class Output:
    """One packet a frame. What goes out lags `delay_ticks` behind what goes in.

    The encoder is CELT with low delay: its lag is the smallest there is, and, other than with the speech modes, a
    packet's audio does not hang on many packets before it.
    """

    def __init__(self) -> None:
        self._encoder = Encoder(bitrate_bps=BITRATE_BPS, application=APPLICATION_LOW_DELAY)
        self._decoder = Decoder()
        #: Of the latest packets those that the decoder has not heard.
        self._unheard: deque[bytes] = deque(maxlen=WARM_UP_PACKETS)
        self._gain = 1.0
        self.delay_ticks = self._encoder.lookahead_ticks
        #: Packets that were made more than once.
        self.repeated = 0

    def prime(self, pcm: Pcm) -> None:
        """Set the encoder up with a frame that is not sent, because listeners have heard it otherwise."""
        self._encoder.encode(pcm)

    def follow(self, heard_before: bytes) -> None:
        """Listeners' decoders are there (`Decoder.save`) before the first packet."""
        self._unheard.clear()
        self._decoder.load(heard_before)

    def encode(self, pcm: Pcm, *, independent: bool = False) -> bytes:
        """The packet of this frame of 20 ms. An `independent` one does not need those before it."""
        if self._gain == 1.0 and _peak(pcm) <= HARMLESS:
            payload = self._encoder.encode(pcm, independent=independent)
            self._unheard.append(payload)
            return payload
        for payload in self._unheard:
            self._decoder.decode(payload)
        self._unheard.clear()
        return self._encode_checked(pcm, independent)

    def _encode_checked(self, pcm: Pcm, independent: bool) -> bytes:
        encoder, decoder = self._encoder.save(), self._decoder.save()
        best = attempt = self._attempt(pcm, min(1.0, self._gain + RELEASE), independent)
        repeats = 0
        while attempt.excess > 1.0 and repeats < MAX_REPEATS:
            repeats += 1
            self._encoder.load(encoder)
            self._decoder.load(decoder)
            if repeats > MAX_REPEATS - REPEATS_WITH_MORE_BITS:
                self._encoder.set_bitrate(MORE_BITS_BPS)
            attempt = self._attempt(pcm, attempt.gain * max(_MAX_STEP, _UNDERSHOOT / attempt.excess), independent)
            best = min(best, attempt)
        if repeats:
            self._encoder.load(best.encoder)
            self._encoder.set_bitrate(BITRATE_BPS)
            self._decoder.load(best.decoder)
            self.repeated += 1
        self._gain = best.gain
        return best.payload

    def _attempt(self, pcm: Pcm, gain: float, independent: bool) -> _Attempt:
        shaped = self._turned_down(pcm, gain)
        payload = self._encoder.encode(shaped, independent=independent)
        excess = self._excess(shaped, payload, begins=independent)
        return _Attempt(excess, gain, payload, self._encoder.save(), self._decoder.save())

    def _turned_down(self, pcm: Pcm, gain: float) -> Pcm:
        if self._gain == gain == 1.0:
            return pcm
        shaped: Pcm = pcm * np.float32(gain)
        shaped[:OVERLAP] = pcm[:OVERLAP] * (self._gain + (gain - self._gain) * ramp(OVERLAP))
        return shaped

    def _excess(self, pcm: Pcm, payload: bytes, *, begins: bool) -> float:
        """How many times louder than allowed decoders play the packet of this frame: the next one for ours."""
        heard = self._decoder.decode(payload)
        # Where the mix begins, what passed through ends: no less loud than its own encoder has made it.
        excess = _peak(heard[OVERLAP:] if begins else heard) / LOUDEST
        if excess <= 1.0 and _peak(pcm[-OVERLAP:]) > HARMLESS:
            encoder, decoder = self._encoder.save(), self._decoder.save()
            self._encoder.set_bitrate(MORE_BITS_BPS)
            following = self._encoder.encode(np.ascontiguousarray(pcm[::-1]))
            excess = max(excess, _peak(self._decoder.decode(following)[:OVERLAP]) / LOUDEST_AFTER)
            self._encoder.load(encoder)
            self._decoder.load(decoder)
        return excess


def _peak(pcm: Pcm) -> float:
    return float(np.abs(pcm).max())
