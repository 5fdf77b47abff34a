"""Work that does not run in the event loop: functions in threads, and CPU-bound ones in processes."""

from poise.offload.frames import in_child
from poise.offload.processes import ProcessPool
from poise.offload.threads import ThreadPool

__all__ = ["ProcessPool", "ThreadPool", "in_child"]
