"""Functions in threads: bounded, with their task's context, and never able to hold the process up."""

import asyncio
import concurrent.futures
import contextvars
import subprocess
import sys
import threading

import pytest

from poise.executors.threads import ThreadPool

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="nowhere")


async def test_functions_run_side_by_side_as_many_as_there_are_threads() -> None:
    pool, together = ThreadPool(4, "t"), threading.Barrier(4)
    names = await asyncio.gather(
        *(pool.run(lambda: (together.wait(10), threading.current_thread().name)[1]) for _ in "1234")
    )
    assert sorted(names) == ["t-1", "t-2", "t-3", "t-4"]
    pool.close()


async def test_threads_are_used_again_and_never_more_than_allowed() -> None:
    pool, now, most, lock = ThreadPool(3, "t"), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.001)
        with lock:
            now -= 1

    await asyncio.gather(*(pool.run(work) for _ in range(100)))
    assert most <= 3
    for _ in range(3):
        await pool.run(work)
    assert len(pool._threads) <= 3
    pool.close()


async def test_a_function_sees_the_context_of_who_called_it() -> None:
    pool = ThreadPool(1, "t")
    WHERE.set("here")
    assert await pool.run(WHERE.get) == "here"
    pool.close()


@pytest.mark.parametrize(
    ("raised", "seen", "says"),
    [
        (KeyError("k"), KeyError, "k"),
        (StopIteration(1), RuntimeError, "raised StopIteration"),
        (SystemExit(3), RuntimeError, "raised SystemExit: 3"),
        (asyncio.CancelledError(), RuntimeError, "raised CancelledError"),
        (concurrent.futures.CancelledError(), RuntimeError, "raised CancelledError"),
    ],
)
async def test_what_it_raises_is_raised_and_ends_nothing_else(
    raised: BaseException, seen: type[Exception], says: str
) -> None:
    pool = ThreadPool(1, "t")

    def fail() -> None:
        raise raised

    with pytest.raises(seen, match=says):
        await pool.run(fail)
    assert await pool.run(lambda: 1) == 1
    pool.close()


async def test_a_call_that_is_cancelled_returns_and_its_thread_works_on() -> None:
    pool, begun, go_on, ran = ThreadPool(1, "t"), threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        go_on.wait(10)

    running = asyncio.create_task(pool.run(block))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(pool.run(ran.set))
    await asyncio.sleep(0)
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert running.cancelled()
    assert pool.busy == 1
    go_on.set()
    await pool.run(lambda: None)
    assert not ran.is_set(), "what had not begun when it was cancelled must not run"
    pool.close()


def test_a_thread_that_never_returns_does_not_keep_the_process() -> None:
    code = """
import asyncio, threading
from poise.executors.threads import ThreadPool

async def main():
    pool, begun = ThreadPool(1, "t"), threading.Event()
    task = asyncio.create_task(pool.run(lambda: (begun.set(), threading.Event().wait())))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    pool.close()
    print("done", pool.busy)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "done 1\n"
