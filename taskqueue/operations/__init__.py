"""Looks at and repairs broker and pool: the operator's functions, for any user interface. It never knows a terminal."""
