"""Finds the prime factors of numbers, as workers of taskqueue."""
