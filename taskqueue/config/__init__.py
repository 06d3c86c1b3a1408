"""config.ini: its lines, its keys, its values, the settings that it gives. Kept empty: a worker imports its settings."""
