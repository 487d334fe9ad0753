"""The one UDP socket and the loops that drive the protocol cores."""
