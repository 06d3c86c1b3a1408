"""Dramatiq on RabbitMQ. It always acknowledges late; publishes are confirmed, where its documentation offers it.

It has no results over AMQP of its own. With BENCH_RESULTS the actor publishes its result to the queue `results`,
persistent and mandatory, `confirmed` as an author would who needs what taskqueue gives, or `unconfirmed`.

    dramatiq_app.py submit ID        the tasks that standard input says, with this id; prints where results will come
    dramatiq_app.py latency COUNT    so many, one at a time; prints the milliseconds of each
"""

import json
import os
import sys
import time
import uuid

import dramatiq
import pika
from acting import act as do_act
from dramatiq.brokers.rabbitmq import RabbitmqBroker

time.sleep(float(os.environ.get("BENCH_IMPORT_S", "0")))

RESULTS = "results" if "BENCH_RESULTS" in os.environ else None

broker = RabbitmqBroker(url=os.environ["BENCH_URL"], confirm_delivery=os.environ.get("BENCH_RESULTS") != "unconfirmed")
dramatiq.set_broker(broker)


def publish(task_id, result):
    if RESULTS is not None:
        properties = pika.BasicProperties(delivery_mode=2, correlation_id=task_id, content_type="application/json")
        broker.channel.basic_publish("", RESULTS, json.dumps(result).encode(), properties, mandatory=True)


@dramatiq.actor
def noop(workitem, task_id):
    publish(task_id, None)


@dramatiq.actor
def act(workitem, task_id):
    publish(task_id, do_act(workitem["fields"]["work"]))


def main():
    workitems = [(broker.get_actor(task), workitem) for task, workitem in json.load(sys.stdin)]
    if RESULTS is not None:
        broker.channel.queue_declare(RESULTS, durable=True)
    if sys.argv[1] == "submit":
        for actor, workitem in workitems:
            broker.enqueue(actor.message(workitem, sys.argv[2]).copy(message_id=sys.argv[2]))
        print(json.dumps(RESULTS))
    else:
        ((actor, workitem),) = workitems
        came = []
        consumer = pika.BlockingConnection(broker.parameters)
        consumer.channel().basic_consume(RESULTS, lambda *delivery: came.append(delivery), auto_ack=True)
        took_ms = []
        for _ in range(int(sys.argv[2])):
            began = time.perf_counter()
            actor.send(workitem, str(uuid.uuid4()))
            while not came:
                consumer.process_data_events(time_limit=60)
            took_ms.append((time.perf_counter() - began) * 1000)
            came.clear()
        print(json.dumps(took_ms))


if __name__ == "__main__":
    main()
