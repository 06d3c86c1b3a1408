"""Running a plugin once, beside the workerpool, for its author."""
