"""The process that supervises all groups of a host. It runs as root, speaks no AMQP and loads no plugin."""
