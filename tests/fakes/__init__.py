"""Stand-ins that need no thread, socket or real time, so that tests run in virtual time."""
