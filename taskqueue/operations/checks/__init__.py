"""The checks of `taskqueue doctor` that need no terminal and no plugin: each gives findings."""
