"""Taskiq on aio-pika. It acknowledges when a task is done (--ack-type when_saved, its default); its queue is a quorum
queue by default. It has no results over AMQP.

    taskiq_app.py submit ID    the tasks that standard input says, with this id
"""

import asyncio
import json
import os
import sys
import time

from acting import act as do_act
from taskiq_aio_pika import AioPikaBroker

time.sleep(float(os.environ.get("BENCH_IMPORT_S", "0")))

# as many as a worker runs at a time (--max-async-tasks): with its default of 10 it only waits more
broker = AioPikaBroker(os.environ["BENCH_URL"], qos=100)


@broker.task(task_name="noop")
async def noop(workitem: dict):
    return None


@broker.task(task_name="act")
def act(workitem: dict):
    return do_act(workitem["fields"]["work"])


async def submit(task_id):
    await broker.startup()
    for task, workitem in json.load(sys.stdin):
        await broker.find_task(task).kicker().with_task_id(task_id).kiq(workitem)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(submit(sys.argv[2]))
    print(json.dumps(None))
