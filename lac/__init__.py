"""LiveAudioCast: accounts, broadcasts and rooms. Knows of media through `lac_media`; of HTTP it knows nothing."""

__version__ = "0.1.0"
