"""Arguments and options of the subcommands: decorators that add them, the types of their values, and what they mean."""
