"""HTTP and WebSocket: parse, call one service of `lac`, serialise."""
