"""The event loop: descriptors, timers, signals, callbacks of other threads, hooks."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from descriptors import descriptors
from taskqueue.foundation.loop import Loop

DEADLINE_S = 5.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop; signal handlers and the wake-up descriptor are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)}
    made = Loop()
    yield made
    made.close()
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_timers_in_the_order_of_their_times(loop: Loop) -> None:
    called: list[str] = []
    loop.call_later(0.003, lambda: called.append("late"))
    loop.call_later(0.001, lambda: called.append("early"))
    loop.call_later(0.001, lambda: called.append("early too"))
    loop.call_later(0.004, loop.stop)
    loop.start()
    assert called == ["early", "early too", "late"]


def test_a_timer_is_never_called_before_its_time(loop: Loop) -> None:
    called: list[float] = []
    began = time.monotonic()
    loop.call_later(0.02, lambda: called.append(time.monotonic() - began))
    deadline = began + DEADLINE_S
    while not called and time.monotonic() < deadline:
        loop.turn(1.0)
    assert 0.02 <= called[0] < 0.5, "the wait ends with the timer"


def test_a_cancelled_timer_is_neither_called_nor_waited_for(loop: Loop) -> None:
    called: list[str] = []
    loop.call_later(0.0, lambda: called.append("a")).cancel()
    loop.remove_timeout(loop.call_later(0.0, lambda: called.append("b")))
    loop.call_later(0.001, loop.stop)
    loop.start()
    assert not called


def test_a_timer_may_cancel_another_of_the_same_turn(loop: Loop) -> None:
    called: list[str] = []
    first = loop.call_later(0.0, lambda: second.cancel())
    second = loop.call_later(0.0, lambda: called.append("second"))
    loop.turn(0.01)
    loop.turn(0)
    assert first.callback is None and not called


def test_a_timer_of_no_delay_made_by_itself_does_not_starve_the_rest(loop: Loop) -> None:
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    loop.call_soon(again)
    loop.turn(0)
    assert turns == 1, "what is called soon while callbacks run is for the next turn"
    loop.turn(0)
    assert turns == 2


def test_a_callback_of_another_thread_ends_the_wait(loop: Loop) -> None:
    called: list[int] = []
    thread = threading.Thread(target=lambda: loop.add_callback(lambda: called.append(threading.get_ident())))
    began = time.monotonic()
    loop.call_later(DEADLINE_S, loop.stop)
    thread.start()
    while not called and time.monotonic() < began + DEADLINE_S:
        loop.turn(DEADLINE_S)
    thread.join()
    assert called == [threading.get_ident()]
    assert time.monotonic() - began < 1.0


def test_many_callbacks_from_many_threads_all_come(loop: Loop) -> None:
    called: list[int] = []

    def add(number: int) -> None:
        for _ in range(500):
            loop.add_callback(lambda: called.append(number))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while len(called) < 2000 and time.monotonic() < deadline:
        loop.turn(0.05)
    for thread in threads:
        thread.join()
    assert sorted(called) == [n for n in range(4) for _ in range(500)]


def test_a_signal_is_acted_on_in_the_loop_not_in_the_handler(loop: Loop) -> None:
    called: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: called.append("usr1"))
    loop.on_signal(signal.SIGUSR2, lambda: called.append("usr2"))
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not called, "handlers record, loops act"
    loop.turn(DEADLINE_S)
    assert called == ["usr1"]
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.turn(DEADLINE_S)
    assert called == ["usr1", "usr2"]


def test_a_signal_ends_the_wait(loop: Loop) -> None:
    loop.on_signal(signal.SIGUSR1, loop.stop)
    loop.call_later(0.01, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    began = time.monotonic()
    loop.start()
    assert time.monotonic() - began < DEADLINE_S


def test_a_childs_death_arrives_as_a_signal(loop: Loop) -> None:
    dead: list[bool] = []
    loop.on_signal(signal.SIGCHLD, lambda: dead.append(True))
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    deadline = time.monotonic() + DEADLINE_S
    while not dead and time.monotonic() < deadline:
        loop.turn(DEADLINE_S)
    os.waitpid(pid, 0)
    assert dead


def test_readable_and_writable(loop: Loop) -> None:
    read, write = os.pipe()
    seen: list[tuple[int, int]] = []
    loop.add_handler(read, lambda fd, events: seen.append((fd, events)), loop.READ)
    loop.turn(0)
    assert not seen
    os.write(write, b"x")
    loop.turn(DEADLINE_S)
    assert seen == [(read, loop.READ)]
    loop.update_handler(read, 0)
    loop.turn(0)
    assert len(seen) == 1, "no events are waited for"
    loop.remove_handler(read)
    os.close(read)
    os.close(write)


def test_the_end_of_a_pipe_is_told_as_readable(loop: Loop) -> None:
    read, write = os.pipe()
    events_seen: list[int] = []
    loop.add_handler(read, lambda _fd, events: events_seen.append(events), loop.READ)
    os.close(write)
    loop.turn(DEADLINE_S)
    assert events_seen and events_seen[0] & loop.READ
    loop.remove_handler(read)
    os.close(read)


def test_a_handler_removed_in_the_same_turn_is_not_called(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def handler(fd: int, _events: int) -> None:
        called.append(fd)
        for read, _ in pipes:
            loop.remove_handler(read)

    for read, write in pipes:
        loop.add_handler(read, handler, loop.READ)
        os.write(write, b"x")
    loop.turn(DEADLINE_S)
    loop.turn(0)
    assert len(called) == 1
    for fd in (fd for pair in pipes for fd in pair):
        os.close(fd)


def test_a_handler_is_removed_once_however_often_and_however_late(loop: Loop) -> None:
    """pika removes twice, and after the descriptor was closed: nothing is raised, and nobody else's handler goes."""
    called: list[int] = []
    read, write = os.pipe()
    loop.add_handler(read, lambda fd, events: called.append(fd), loop.READ)
    os.close(read)
    loop.remove_handler(read)
    loop.remove_handler(read)
    os.close(write)
    other, write = os.pipe()
    assert other == read, "the kernel gives the number again"
    loop.add_handler(other, lambda fd, events: called.append(-fd), loop.READ)
    os.write(write, b"x")
    loop.turn(DEADLINE_S)
    assert called == [-other], "the handler of the closed descriptor is not called for the new one"
    loop.remove_handler(other)
    os.close(other)
    os.close(write)


def test_hooks_run_in_every_turn_before_the_wait(loop: Loop) -> None:
    order: list[str] = []
    hook = lambda: order.append("hook")  # noqa: E731
    loop.before_wait(hook)
    loop.call_soon(lambda: order.append("callback"))
    loop.turn(0)
    loop.turn(0)
    loop.remove_hook(hook)
    loop.turn(0)
    assert order == ["hook", "callback", "hook"]


def test_a_hook_may_remove_itself(loop: Loop) -> None:
    called: list[str] = []

    def once() -> None:
        called.append("once")
        loop.remove_hook(once)

    loop.before_wait(once)
    loop.before_wait(lambda: called.append("always"))
    loop.turn(0)
    loop.turn(0)
    assert called == ["once", "always", "always"]


def test_work_that_is_left_is_not_waited_for(loop: Loop) -> None:
    loop.before_wait(lambda: None)
    loop.call_soon(lambda: loop.call_soon(lambda: None))
    began = time.monotonic()
    loop.turn(DEADLINE_S)
    loop.turn(DEADLINE_S)
    assert time.monotonic() - began < 1.0


def test_what_a_hook_calls_soon_runs_in_the_same_turn(loop: Loop) -> None:
    called: list[str] = []
    loop.before_wait(lambda: loop.call_soon(lambda: called.append("soon")) if not called else None)
    loop.turn(DEADLINE_S)
    assert called == ["soon"]


# -- inside another event loop


def readable(loop: Loop) -> bool:
    return bool(select.select([loop.fileno()], [], [], 0)[0])


def settle(loop: Loop) -> None:
    """Turn as another event loop would, until nothing is due at once."""
    for _ in range(10):
        loop.turn(0)
        if loop.next_due_s() != 0.0:
            return
    raise AssertionError("there is always more to do")


def test_a_new_loop_is_due_at_once_and_then_has_nothing_to_do(loop: Loop) -> None:
    assert loop.next_due_s() == 0.0, "hooks have not run yet"
    settle(loop)
    assert loop.next_due_s() is None and not readable(loop)


def test_its_descriptor_is_readable_while_one_of_its_own_is(loop: Loop) -> None:
    read, write = os.pipe()
    loop.add_handler(read, lambda fd, events: os.read(fd, 1), loop.READ)
    settle(loop)
    assert not readable(loop)
    os.write(write, b"x")
    assert readable(loop)
    loop.turn(0)
    assert not readable(loop)
    loop.remove_handler(read)
    os.close(read)
    os.close(write)


def test_a_callback_of_another_thread_makes_it_readable(loop: Loop) -> None:
    settle(loop)
    loop.add_callback(lambda: None)
    assert readable(loop) and loop.next_due_s() == 0.0


def test_it_is_due_with_its_next_timer_that_is_not_cancelled(loop: Loop) -> None:
    settle(loop)
    first = loop.call_later(50.0, lambda: None)
    loop.call_later(100.0, lambda: None)
    assert 49.0 < (loop.next_due_s() or 0.0) <= 50.0
    first.cancel()
    assert 99.0 < (loop.next_due_s() or 0.0) <= 100.0


@pytest.mark.parametrize("what", ["descriptor", "timer", "callback"])
def test_hooks_see_what_a_turn_brought_before_it_waits_again(loop: Loop, what: str) -> None:
    """As confirms are read in one turn, and handed to their owners by the hooks of the next."""
    brought: list[str] = []
    seen: list[str] = []
    read, write = os.pipe()
    settle(loop)
    loop.before_wait(lambda: seen.extend(brought))
    match what:
        case "descriptor":
            loop.add_handler(read, lambda fd, events: brought.append(os.read(fd, 1).decode()), loop.READ)
            os.write(write, b"x")
        case "timer":
            loop.call_later(0.0, lambda: brought.append("x"))
        case "callback":
            loop.call_soon(lambda: brought.append("x"))
    loop.turn(0)
    assert brought == ["x"] and not seen and loop.next_due_s() == 0.0
    loop.turn(0)
    assert seen == ["x"] and loop.next_due_s() is None
    os.close(read)
    os.close(write)


def test_a_callback_that_raises_ends_the_turn_and_what_is_left_is_due_at_once(loop: Loop) -> None:
    settle(loop)
    called: list[str] = []
    loop.call_soon(lambda: 1 // 0)
    loop.call_soon(lambda: called.append("left"))
    with pytest.raises(ZeroDivisionError):
        loop.turn(0)
    assert not called and loop.next_due_s() == 0.0
    loop.turn(0)
    assert called == ["left"]


def test_close_gives_every_descriptor_back() -> None:
    before = descriptors()
    made = Loop()
    assert descriptors() > before
    made.close()
    assert descriptors() == before
