"""The host, as taskqueue needs it: users, processes, cgroups, logs, service manager. Empty, for workers import it."""
