"""The ground below every process: event loop, backoff, state machines, JSON coders. It imports only `errors`."""
