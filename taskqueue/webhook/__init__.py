"""The plugin `webhook`: a workitem is an HTTP request that it makes."""
