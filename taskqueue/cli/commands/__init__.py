"""The subcommands of `taskqueue`, a file each."""
