"""The program as plain HTTP streams, for radios, cars and players: encoded once per format, read by many."""
