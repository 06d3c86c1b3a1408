"""What taskqueue needs of the host: users, processes, cgroups, logs, service manager. Empty, for workers import it."""
