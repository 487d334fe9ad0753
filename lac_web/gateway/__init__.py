"""The `/ws` WebSocket: sans-IO frames and the Trio shell of one connection."""
