"""The ground that every process stands on: the event loop, backoff, state machines, JSON coders. It imports `errors` only."""
