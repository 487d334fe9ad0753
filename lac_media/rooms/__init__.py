"""Media rooms: sessions of speakers and listeners around one program."""
