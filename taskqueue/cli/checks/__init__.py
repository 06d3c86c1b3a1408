"""What `taskqueue doctor` looks at beside the checks of `operations`."""
