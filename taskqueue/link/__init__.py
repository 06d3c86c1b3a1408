"""The unix sockets between pool, listener, template and worker, and what goes over them. Kept empty: a worker imports it."""
