"""Connection, Declarer, Publisher and Consumer inside asyncio: the loop's descriptor and its next timer are enough."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from plain_amqp import PlainAmqp
from proxy import Proxy
from taskqueue.amqp import Connection, Consumer, Declarer, Delivery, Published, Publisher
from taskqueue.config.load import URL_VARIABLE, load
from taskqueue.foundation.loop import Loop
from taskqueue.protocol.properties import Properties
from taskqueue.protocol.queues import Queue

QUORUM = Queue("quorum", {"x-queue-type": "quorum"})
COUNT = 2_000
DEADLINE_S = 60.0


class Bridge:
    """A `Loop` inside the running asyncio loop. `wake` it after a call from outside of the loop's own callbacks."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.turns = 0
        self._outer = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        self._outer.add_reader(loop.fileno(), self._turn)
        self.wake()

    def wake(self) -> None:
        """Turn once in the next iteration of asyncio, however often this is called before."""
        self._turn_after(0.0)

    def close(self) -> None:
        """Leave asyncio."""
        self._outer.remove_reader(self.loop.fileno())
        self._turn_after(None)

    def _turn_after(self, wait_s: float | None) -> None:
        if self._next is not None:
            self._next.cancel()
        if wait_s == 0.0:
            self._next = self._outer.call_soon(self._turn)
        else:
            self._next = None if wait_s is None else self._outer.call_later(wait_s, self._turn)

    def _turn(self) -> None:
        self.turns += 1
        self.loop.turn(0)
        self._turn_after(self.loop.next_due_s())


class House:
    """The ordinary rooms, and futures for what they answer."""

    def __init__(self, url: str) -> None:
        self.loop = Loop()
        self.up = asyncio.Event()
        self.downs = 0
        self.connection = Connection(
            self.loop, load(environ={URL_VARIABLE: url}).amqp, "test", on_up=self.up.set, on_down=self._on_down
        )
        self.declarer = Declarer(self.connection)
        self.publisher = Publisher(self.connection)
        self.bridge = Bridge(self.loop)

    def _on_down(self) -> None:
        self.downs += 1
        self.up.clear()

    def publish(self, message_id: str) -> asyncio.Future[Published]:
        answer: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.publisher.publish(QUORUM.name, Properties(message_id=message_id), b"body", answer.set_result)
        self.bridge.wake()
        return answer

    async def declare(self) -> None:
        declared = asyncio.Event()
        self.declarer.declare(QUORUM, declared.set)
        self.bridge.wake()
        await declared.wait()

    def consume(self, on_delivery: Callable[[Delivery], None]) -> Consumer:
        consumer = Consumer(self.connection, self.declarer, QUORUM, 500, on_delivery)
        self.bridge.wake()
        return consumer


@asynccontextmanager
async def house(url: str) -> AsyncIterator[House]:
    made = House(url)
    made.connection.start()
    await made.up.wait()
    yield made
    closed = asyncio.Event()
    made.connection.close(closed.set)
    made.bridge.wake()
    await closed.wait()
    made.bridge.close()
    made.loop.close()


@pytest.fixture
def plain(amqp_url: str) -> Iterator[PlainAmqp]:
    """Another program's view of the broker."""
    with PlainAmqp(amqp_url) as client:
        yield client


def run(url: str, body: Callable[[House], Awaitable[None]]) -> None:
    """Run `body(house)`, a coroutine function, in asyncio, with a deadline."""

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_S), house(url) as made:
            await body(made)

    asyncio.run(main())


def test_thousands_are_published_confirmed_and_consumed(amqp_url: str, plain: PlainAmqp) -> None:
    async def body(made: House) -> None:
        await made.declare()
        answers = await asyncio.gather(*(made.publish(f"m{number}") for number in range(COUNT)))
        assert answers == [Published.CONFIRMED] * COUNT
        came: asyncio.Queue[Delivery] = asyncio.Queue()
        made.consume(came.put_nowait)
        deliveries: list[Delivery] = []
        while len(deliveries) < COUNT:
            deliveries.append(await came.get())
            assert deliveries[-1].settle()
            made.bridge.wake()
        assert {delivery.properties.message_id for delivery in deliveries} == {f"m{n}" for n in range(COUNT)}
        assert made.downs == 0

    run(amqp_url, body)
    assert plain.depth("quorum") == 0, "all acks have left"


def test_one_at_a_time_and_nothing_to_do_when_idle(amqp_url: str) -> None:
    async def body(made: House) -> None:
        await made.declare()
        for number in range(50):
            assert await made.publish(f"m{number}") is Published.CONFIRMED
        for _ in range(3):
            await asyncio.sleep(0)  # what the last confirm has left to do
        before = made.bridge.turns
        reads = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.2, reads.set_result, None)
        await reads
        assert made.bridge.turns - before <= 5, "it does not spin"

    run(amqp_url, body)


def test_all_of_one_iteration_leaves_in_one_write(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(made: House) -> None:
        await made.declare()
        await made.publish("first")
        writes: list[int] = []
        write = made.connection.pika._transport.write

        def counted(data: bytes) -> None:
            writes.append(len(data))
            write(data)

        monkeypatch.setattr(made.connection.pika._transport, "write", counted)
        await asyncio.gather(*(made.publish(f"m{number}") for number in range(200)))
        assert len(writes) == 1

    run(amqp_url, body)


def test_a_timer_of_the_rooms_comes_in_time_and_a_lost_connection_comes_back(proxy: Proxy, vhost: str) -> None:
    async def body(made: House) -> None:
        await made.declare()
        proxy.cut()
        while made.downs == 0:
            await asyncio.sleep(0.01)
        await made.up.wait()
        await made.declare()
        assert await made.publish("again") is Published.CONFIRMED

    run(proxy.url(vhost), body)


def test_signals_are_asyncios(amqp_url: str) -> None:
    async def body(made: House) -> None:
        came = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, came.set)
        signal.raise_signal(signal.SIGUSR1)
        await came.wait()
        await made.declare()

    run(amqp_url, body)


def test_another_thread_wakes_it(amqp_url: str) -> None:
    async def body(made: House) -> None:
        called = asyncio.Event()
        await asyncio.to_thread(made.loop.add_callback, called.set)
        await called.wait()

    run(amqp_url, body)
