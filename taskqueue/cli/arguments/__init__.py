"""Groups of arguments and options that several subcommands share."""
