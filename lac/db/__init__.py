"""Tables, the engine, and the one door to worker threads."""
