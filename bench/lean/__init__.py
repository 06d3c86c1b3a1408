"""The two ends of the figures over HTTP: who sends tasks, and whom their webhooks call. As little work as can be."""
