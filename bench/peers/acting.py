"""What a task does when it is to do something: the same text in every peer, and in taskqueue's plugin."""

import os
import time


def act(work):
    """Sleep for `nap_s` seconds; when it began and ended (monotonic seconds), and where. With `stamp`, a file says
    at once that it began."""
    began = time.monotonic()
    if work["stamp"]:
        file = os.open(work["stamp"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(file, b"%.6f %d\n" % (began, os.getpid()))
        os.close(file)
    time.sleep(work["nap_s"])
    return [began, time.monotonic(), os.getpid()]
