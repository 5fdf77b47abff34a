"""A worker under test, in a process of its own: `python -m tests.benchmarks.messaging.worker JOB`.

It reports on standard output. On standard input, a line asks for a report at once; the end asks it to stop.
"""

import asyncio
import logging
import sys
import threading
import warnings

from tests.benchmarks.messaging.contestants import CONTESTANTS
from tests.benchmarks.messaging.job import Job
from tests.benchmarks.messaging.tally import Tally
from tests.benchmarks.subject import say


async def main() -> None:
    """Work until the runner closes our standard input."""
    job = Job.decode(sys.argv[1])
    tally, stop, loop = Tally(job), asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(tally.report)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    await CONTESTANTS[job.contestant](job, tally, lambda: say("ready"), stop)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls a group that is just being made an error
    warnings.simplefilter("ignore")  # FastStream warns of policies that do the same: all of them are asked for
    asyncio.run(main())
