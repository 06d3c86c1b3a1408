"""Looks at and repairs broker and pool: the operator's functions, for any face. It never knows a terminal."""
