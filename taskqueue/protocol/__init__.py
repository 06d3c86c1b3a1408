"""The AMQP contract as code: queues, properties, delays, results, dead letters. No module here talks to a broker."""
