"""Opus by libopus: decoding with concealment, and encoding, on numpy arrays."""

from lac_media.opus.codec import Decoder, Encoder, OpusError
from lac_media.opus.library import Pcm, opus_version

__all__ = ["Decoder", "Encoder", "OpusError", "Pcm", "opus_version"]
