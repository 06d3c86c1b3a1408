"""What each route of the API does: a coroutine that gets a `Question`, asks the desk, and gives an `Answer`."""
