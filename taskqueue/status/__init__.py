"""The status document of a pool: the socket that serves it, and the reader of that socket."""
