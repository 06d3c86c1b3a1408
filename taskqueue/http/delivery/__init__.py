"""Between the book and the broker: hands attempts out, and reads what became of them."""
