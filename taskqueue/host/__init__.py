"""Linux, as our processes meet it: users, processes, cgroups, logs, service manager. Empty, for workers import it."""
