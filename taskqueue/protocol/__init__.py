"""The AMQP contract as code: queues, properties, delays, results, hand-outs, dead letters. No module here talks to a broker."""
