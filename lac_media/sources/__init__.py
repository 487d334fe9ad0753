"""Audio that comes in over plain HTTP, from Icecast source clients: unpacked, made Opus, played at the clock's pace."""
