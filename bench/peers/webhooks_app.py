"""FastAPI in front, Celery behind it, requests to the target: what one would build from their documentation.

    uvicorn webhooks_app:api                   POST /tasks {"url", "body"}: 202 once the broker has confirmed
    celery -A webhooks_app:app worker …        makes the requests

As Celery's guide recommends for tasks that must not be lost: task_acks_late, task_reject_on_worker_lost, and
confirm_publish, for a 2xx says that the task is kept. Results are not kept, which is cheaper. The endpoint is a plain
`def`, as FastAPI's documentation says for what blocks.
"""

import os

import requests
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

app = Celery("webhooks", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
)
api = FastAPI()


class Task(BaseModel):
    url: str
    body: str


@app.task(name="webhook", autoretry_for=(requests.RequestException,), retry_backoff=True)
def webhook(url, body):
    requests.post(url, data=body, timeout=30).raise_for_status()


@api.post("/tasks", status_code=202)
def create(task: Task) -> dict[str, str]:
    return {"id": webhook.delay(task.url, task.body).id}
