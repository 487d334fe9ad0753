"""The `lac` command, one file per subcommand."""
