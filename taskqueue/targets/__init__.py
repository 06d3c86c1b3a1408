"""Which addresses may be connected to, and what a URL says before anybody connects: front and webhook share it."""
