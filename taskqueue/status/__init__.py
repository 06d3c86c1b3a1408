"""The status document of a pool: who serves it, and who reads it."""
