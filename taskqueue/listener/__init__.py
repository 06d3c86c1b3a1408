"""The process that consumes one worker type's AMQP queue and settles what its workers run. It never loads a plugin."""
