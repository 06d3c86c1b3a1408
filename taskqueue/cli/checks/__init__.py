"""The checks of `taskqueue doctor` that need a plugin or the terminal's user; all others are in `operations.checks`."""
