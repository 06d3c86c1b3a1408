"""The book: every task, queue and schedule as rows, in SQLite or PostgreSQL. No module here speaks HTTP or AMQP."""
