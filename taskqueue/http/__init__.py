"""The front: takes tasks over HTTP, keeps them in the book, and hands their attempts to workers."""
