"""Everything that reads what strangers send, fed with what strangers might send. `make test` tries a little of it each
time, `make fuzz` much more; a find becomes a named test beside the others of its parser."""
