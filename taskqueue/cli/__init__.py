"""The commands, and what they show: the only wing that may import any other, and that none imports."""
