"""Low-latency HLS (draft-pantos-hls-rfc8216bis) of a program, for the many: see docs/protocol/hls.md."""
