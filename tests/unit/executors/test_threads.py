"""ThreadPool: bounded, with the task's context variables, and without keeping the process alive."""

import asyncio
import concurrent.futures
import contextvars
import subprocess
import sys
import threading

import pytest

from poise.executors.threads import ThreadPool

WHERE: contextvars.ContextVar[str] = contextvars.ContextVar("WHERE", default="nowhere")


async def test_functions_run_concurrently_in_all_threads() -> None:
    pool, together = ThreadPool(4, "t"), threading.Barrier(4)
    names = await asyncio.gather(
        *(pool.run(lambda: (together.wait(10), threading.current_thread().name)[1]) for _ in "1234")
    )
    assert sorted(names) == ["t-1", "t-2", "t-3", "t-4"]
    pool.close()


async def test_threads_are_reused_and_limited() -> None:
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


async def test_a_function_sees_its_callers_context_variables() -> None:
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
async def test_an_error_is_raised_and_the_pool_continues(
    raised: BaseException, seen: type[Exception], says: str
) -> None:
    pool = ThreadPool(1, "t")

    def fail() -> None:
        raise raised

    with pytest.raises(seen, match=says):
        await pool.run(fail)
    assert await pool.run(lambda: 1) == 1
    pool.close()


async def test_a_cancelled_call_returns_and_its_thread_continues() -> None:
    pool, started, proceed, ran = ThreadPool(1, "t"), threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        proceed.wait(10)

    running = asyncio.create_task(pool.run(block))
    await asyncio.to_thread(started.wait, 10)
    waiting = asyncio.create_task(pool.run(ran.set))
    await asyncio.sleep(0)
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert running.cancelled()
    assert pool.busy == 1
    proceed.set()
    await pool.run(lambda: None)
    assert not ran.is_set(), "a call cancelled before its start must not run"
    pool.close()


def test_a_blocked_thread_does_not_keep_the_process_alive() -> None:
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
