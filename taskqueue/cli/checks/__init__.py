"""The checks of `taskqueue doctor` that need this host's config, users and plugins; others: `operations.checks`."""
