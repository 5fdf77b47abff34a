"""A worker under test, in a separate process: `python -m tests.benchmarks.messaging.worker JOB`.

It reports on standard output. On standard input, a line asks for a report at once; the end asks it to stop.
"""

import asyncio
import logging
import sys
import threading
import warnings

from tests.benchmarks.messaging.contestants import CONTESTANTS
from tests.benchmarks.messaging.job import Job
from tests.benchmarks.messaging.message_counter import MessageCounter
from tests.benchmarks.worker_process import say


async def main() -> None:
    """Run until the runner closes standard input."""
    job = Job.decode(sys.argv[1])
    counter, stop, loop = MessageCounter(job), asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(counter.report)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    await CONTESTANTS[job.contestant](job, counter, lambda: say("ready"), stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs a group that is being created as an error
    warnings.simplefilter("ignore")  # FastStream warns of equivalent policies; all of them are measured
    asyncio.run(main())
