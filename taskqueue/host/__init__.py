"""Linux as our processes meet it: users, processes, cgroups, logs, the service manager. Kept empty: a worker imports it."""
