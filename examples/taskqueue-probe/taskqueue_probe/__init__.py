"""Tells whether network services answer, and how fast, as workers of taskqueue."""
