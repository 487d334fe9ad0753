"""Finding and loading libopus. Nothing is compiled: cffi's ABI mode calls the library that PyAV's wheel carries.

The symbols are the stable public API of libopus 1.x (opus.h, opus_defines.h).
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cffi
import numpy as np
import numpy.typing as npt

from lac_media.errors import EngineStartError

#: float32, (samples, 2), 48 kHz; full scale is [-1, 1], decoded audio may exceed it.
Pcm = npt.NDArray[np.float32]

OK: Final = 0
APPLICATION_VOIP: Final = 2048
APPLICATION_AUDIO: Final = 2049
APPLICATION_LOW_DELAY: Final = 2051
SET_BITRATE: Final = 4002
SET_INBAND_FEC: Final = 4012
SET_PACKET_LOSS_PERC: Final = 4014
SET_DTX: Final = 4016
GET_LOOKAHEAD: Final = 4027
RESET_STATE: Final = 4028
SET_PREDICTION_DISABLED: Final = 4042

ffi: Final = cffi.FFI()
ffi.cdef("""
    typedef struct OpusDecoder OpusDecoder;
    typedef struct OpusEncoder OpusEncoder;
    const char *opus_get_version_string(void);
    const char *opus_strerror(int error);
    int opus_decoder_get_size(int channels);
    OpusDecoder *opus_decoder_create(int32_t rate, int channels, int *error);
    void opus_decoder_destroy(OpusDecoder *decoder);
    int opus_decoder_ctl(OpusDecoder *decoder, int request, ...);
    int opus_decode_float(OpusDecoder *decoder, const unsigned char *data, int32_t size, float *pcm, int frame_size,
                          int decode_fec);
    int opus_encoder_get_size(int channels);
    OpusEncoder *opus_encoder_create(int32_t rate, int channels, int application, int *error);
    void opus_encoder_destroy(OpusEncoder *encoder);
    int opus_encoder_ctl(OpusEncoder *encoder, int request, ...);
    int32_t opus_encode_float(OpusEncoder *encoder, const float *pcm, int frame_size, unsigned char *data,
                              int32_t max_size);
""")


@cache
def opus_library() -> Any:
    """The loaded library. Raises `EngineStartError` if this machine has none that can be used."""
    tried = []
    for name in _candidates():
        try:
            library: Any = ffi.dlopen(name)
            library.opus_get_version_string  # noqa: B018  # resolves the symbol: is it libopus at all?
        except (OSError, AttributeError) as error:
            tried.append(f"{name} ({error})")
        else:
            return library
    raise EngineStartError(
        "libopus, which mixes speakers, could not be loaded: install PyAV from its wheel (pip install av) or the "
        f"system's package (apt-get install libopus0). Tried: {'; '.join(tried) or 'nothing was found'}"
    )


def opus_version() -> str:
    """Such as "libopus 1.6.1"."""
    return text_of(opus_library().opus_get_version_string())


def text_of(chars: Any) -> str:
    """What a C string of libopus says."""
    text: Any = ffi.string(chars)
    return str(text, "ascii")


def samples_of(pcm: Any) -> Any:
    """The array's own memory as `float *`; the array must be C-contiguous and outlive the pointer."""
    return ffi.from_buffer("float[]", pcm)


def _candidates() -> Iterator[str]:
    """PyAV's own copy first (its wheels put it beside the package, or inside on macOS), then the system's."""
    spec = find_spec("av")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        package = Path(folder)
        for beside, pattern in ((package.parent / "av.libs", "libopus*.so*"), (package / ".dylibs", "libopus*.dylib")):
            yield from map(str, sorted(beside.glob(pattern)))
    system = ctypes.util.find_library("opus")
    if system is not None:
        yield system
