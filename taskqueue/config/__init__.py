"""config.ini: its lines, keys and values, and the settings that it gives. Empty, for workers import its settings."""
