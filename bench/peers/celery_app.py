"""Celery: late acknowledgement, results over rpc://, tasks of lost workers run again.

As its guide recommends for tasks that must not be lost: task_acks_late, task_reject_on_worker_lost. Results are as
rpc:// sends them by default, transient and not confirmed; with BENCH_CONFIRMED they have what taskqueue's always have
(persistent, confirmed), and the tasks' queue is a quorum queue. BENCH_PREFETCH: worker_prefetch_multiplier.

    celery_app.py submit ID        the tasks that standard input says, with this id; prints where results will come
    celery_app.py latency COUNT    so many, one at a time; prints the milliseconds of each
"""

import json
import os
import sys
import time

from acting import act as do_act
from celery import Celery

time.sleep(float(os.environ.get("BENCH_IMPORT_S", "0")))

app = Celery("bench", broker=os.environ["BENCH_URL"], backend="rpc://")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
)
if "BENCH_CONFIRMED" in os.environ:
    app.conf.update(
        task_default_queue_type="quorum",
        result_persistent=True,
        broker_transport_options={"confirm_publish": True},
    )


@app.task(name="noop")
def noop(workitem):
    return None


@app.task(name="act")
def act(workitem):
    return do_act(workitem["fields"]["work"])


def main():
    workitems = [(app.tasks[task], workitem) for task, workitem in json.load(sys.stdin)]
    if sys.argv[1] == "submit":
        for task, workitem in workitems:
            task.apply_async((workitem,), task_id=sys.argv[2])
        print(json.dumps(app.backend.oid))
    else:
        ((task, workitem),) = workitems
        took_ms = []
        for _ in range(int(sys.argv[2])):
            began = time.perf_counter()
            task.delay(workitem).get(timeout=60)
            took_ms.append((time.perf_counter() - began) * 1000)
        print(json.dumps(took_ms))


if __name__ == "__main__":
    main()
