"""Linux for taskqueue: users, processes, cgroups, logs, service manager. Nothing else here: every worker loads it."""
