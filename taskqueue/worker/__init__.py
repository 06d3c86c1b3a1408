"""The plugin's side. This face is all that a plugin author imports: `from taskqueue.worker import BaseWorker`."""

from taskqueue.worker.api import BaseWorker, Reject, Retry, SoftTimeLimitExceeded, Task

__all__ = ["BaseWorker", "Reject", "Retry", "SoftTimeLimitExceeded", "Task"]
