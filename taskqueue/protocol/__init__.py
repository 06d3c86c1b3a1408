"""The AMQP contract as code: queues, properties, delays, results, hand-outs, dead letters. Pure."""
