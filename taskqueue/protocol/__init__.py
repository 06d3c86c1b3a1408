"""The AMQP contract as code: queues, properties, delays, results, hand-outs, dead letters. Nothing here does I/O."""
