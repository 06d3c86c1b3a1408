"""The plugin's side. A plugin imports from here only: `from taskqueue.worker import BaseWorker`."""

from taskqueue.worker.api import BaseWorker, Reject, Retry, SoftTimeLimitExceeded, Task

__all__ = ["BaseWorker", "Reject", "Retry", "SoftTimeLimitExceeded", "Task"]
