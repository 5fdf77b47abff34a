"""Work that does not run in the event loop: functions in threads, and CPU-bound ones in processes."""

from poise.offload.frames import in_child
from poise.offload.limited import LimitedExecutor, WorkLimits
from poise.offload.processes import ProcessPool
from poise.offload.threads import ThreadPool

__all__ = ["LimitedExecutor", "ProcessPool", "ThreadPool", "WorkLimits", "in_child"]
