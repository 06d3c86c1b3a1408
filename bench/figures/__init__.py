"""The figures of the table, one module for each family: `measure(lab)` gives what it found."""
