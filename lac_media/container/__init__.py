"""File formats for Opus packets: no codec, no I/O."""
