"""Sans-IO protocol cores: bytes, addresses and `now` in; datagrams, events and deadlines out."""
