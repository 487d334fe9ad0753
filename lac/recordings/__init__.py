"""Recordings: made while a show is on air, finished, published, read."""
