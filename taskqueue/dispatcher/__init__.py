"""The process that reads which worker type a workitem is for, and passes it on. It never loads a plugin."""
