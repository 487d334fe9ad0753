"""One decoder or encoder each: 48 kHz, stereo, float32. Freed with its last reference, without a collector.

A mono packet decodes to two equal channels. All calls are synchronous and take some 20 to 300 microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lac_media.errors import MediaError
from lac_media.opus import library as c
from lac_media.opus.library import Pcm, ffi, opus_library, samples_of, text_of
from lac_media.parameters import OPUS_CLOCK_RATE_HZ
from lac_media.proto.opus import MAX_DURATION_TICKS

CHANNELS = 2
#: libopus conceals in steps of 2.5 ms.
CONCEAL_STEP_TICKS = 120
#: A packet of ours must fit one datagram with everything around it.
MAX_PACKET_BYTES = 1275


class OpusError(MediaError):
    """libopus refused: a corrupt packet, or a wrong argument. The message is libopus's own."""


class _Codec:
    """What both have. All that libopus knows of a stream is in one piece of memory without pointers into itself, which
    opus.h allows to be copied."""

    _memory: Any

    def save(self) -> bytes:
        """Where the stream has come to, for `load`: some 30 to 50 KB, settings included."""
        return bytes(self._memory)

    def load(self, saved: bytes) -> None:
        """Go back to where this same object was at `save`."""
        self._memory[:] = saved


class Decoder(_Codec):
    """One stream's decoder. After an error the stream may go on with the next packet, or with `conceal`."""

    def __init__(self) -> None:
        self._lib = opus_library()
        error = ffi.new("int *")
        state = self._lib.opus_decoder_create(OPUS_CLOCK_RATE_HZ, CHANNELS, error)
        _check(self._lib, error[0])
        self._state = ffi.gc(state, self._lib.opus_decoder_destroy)
        self._memory = ffi.buffer(ffi.cast("char *", state), self._lib.opus_decoder_get_size(CHANNELS))
        self._pcm: Pcm = np.zeros((MAX_DURATION_TICKS, CHANNELS), np.float32)
        self._out = samples_of(self._pcm)

    def decode(self, payload: bytes) -> Pcm:
        """The packet's audio, as long as the packet says. Raises `OpusError`."""
        return self._decode(ffi.from_buffer(payload), len(payload), MAX_DURATION_TICKS, fec=False)

    def decode_lost(self, ticks: int, following: bytes) -> Pcm:
        """Audio in place of the `ticks` right before the packet `following`, from the in-band FEC in it (RFC 6716
        section 2.1.7) as far as it has any, concealed otherwise. `ticks` is a multiple of 120, up to 5,760."""
        return self._decode(ffi.from_buffer(following), len(following), ticks, fec=True)

    def conceal(self, ticks: int) -> Pcm:
        """Audio that goes on plausibly where nothing came. After DTX it is comfort noise. `ticks` as above."""
        return self._decode(ffi.NULL, 0, ticks, fec=False)

    def reset(self) -> None:
        """Forget the stream: the next packet is a first one."""
        self._lib.opus_decoder_ctl(self._state, c.RESET_STATE)

    def _decode(self, data: Any, size: int, ticks: int, *, fec: bool) -> Pcm:
        count = self._lib.opus_decode_float(self._state, data, size, self._out, ticks, fec)
        if count < 0:
            _check(self._lib, count)
        pcm = self._pcm[:count].copy()
        # A corrupt packet can decode to anything; what is not a number would spread through every filter after this.
        return pcm if np.isfinite(pcm.sum()) else np.zeros_like(pcm)


class Encoder(_Codec):
    """`application` is one of the constants of `lac_media.opus.library`; `expected_loss` a percentage that with `fec`
    makes room for in-band FEC (which CELT, thus `APPLICATION_LOW_DELAY`, does not have). DTX is off unless asked for.
    """

    def __init__(
        self,
        *,
        bitrate_bps: int,
        application: int = c.APPLICATION_AUDIO,
        fec: bool = False,
        expected_loss: int = 0,
        dtx: bool = False,
    ) -> None:
        self._lib = opus_library()
        error = ffi.new("int *")
        state = self._lib.opus_encoder_create(OPUS_CLOCK_RATE_HZ, CHANNELS, application, error)
        _check(self._lib, error[0])
        self._state = ffi.gc(state, self._lib.opus_encoder_destroy)
        self._memory = ffi.buffer(ffi.cast("char *", state), self._lib.opus_encoder_get_size(CHANNELS))
        self.set_bitrate(bitrate_bps)
        self._set(c.SET_INBAND_FEC, fec)
        self._set(c.SET_PACKET_LOSS_PERC, expected_loss)
        self._set(c.SET_DTX, dtx)
        lookahead = ffi.new("int32_t *")
        _check(self._lib, self._lib.opus_encoder_ctl(self._state, c.GET_LOOKAHEAD, lookahead))
        #: By how many ticks a decoder's output is behind what went in.
        self.lookahead_ticks: int = lookahead[0]
        self._packet = ffi.new("unsigned char[]", MAX_PACKET_BYTES)

    def encode(self, pcm: Pcm, *, independent: bool = False) -> bytes:
        """One packet of this frame: (n, 2), n ticks of an Opus frame, C-contiguous. An `independent` one is coded
        without prediction from those before it, for decoders that have not seen them."""
        if independent:
            self._set(c.SET_PREDICTION_DISABLED, 1)
        size = self._lib.opus_encode_float(self._state, samples_of(pcm), len(pcm), self._packet, MAX_PACKET_BYTES)
        if independent:
            self._set(c.SET_PREDICTION_DISABLED, 0)
        _check(self._lib, min(size, 0))
        return bytes(ffi.buffer(self._packet, size))

    def set_bitrate(self, bitrate_bps: int) -> None:
        """From the next frame on."""
        self._set(c.SET_BITRATE, bitrate_bps)

    def reset(self) -> None:
        """Forget the stream: the next frame is a first one. Settings stay."""
        self._lib.opus_encoder_ctl(self._state, c.RESET_STATE)

    def _set(self, request: int, value: int) -> None:
        _check(self._lib, self._lib.opus_encoder_ctl(self._state, request, ffi.cast("int32_t", value)))


def _check(library: Any, code: int) -> None:
    if code != c.OK:
        raise OpusError(text_of(library.opus_strerror(code)))
