"""What `taskqueue doctor` looks at."""
