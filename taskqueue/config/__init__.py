"""config.ini: its lines, keys and values, and the settings that it gives. Nothing else here: every worker loads it."""
