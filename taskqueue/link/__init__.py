"""The sockets between pool, listener, template and worker. Nothing else here: every worker loads it."""
