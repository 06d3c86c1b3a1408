"""The AMQP contract as code: queues, properties, delays, results, dead letters. It never talks to a broker."""
