"""The sockets between pool, listener, template and worker, and what they carry. Empty, for workers import it."""
