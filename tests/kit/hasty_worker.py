"""A normal worker with a short stall limit for one component: `python hasty_worker.py TIER PART`.

In a retrieval worker, the thread that reads passages hangs on a record whose key begins with `hang`.
"""

import importlib
import sys
import threading

from poise.kafka.record import Record
from poise.liveness import Component, Liveness
from poise.worker import process
from poise.worker.process import run
from poise_services.retrieval.store import IndexStore

LIMITS = {"stalls_after": 2.0, "ends_after": 6.0}
EXIT_TIMEOUT = 1.0


def main() -> None:
    """Run the main function of the tier."""
    tier, hasty = sys.argv[1:]
    part, apply = Liveness.component, IndexStore.apply

    def hasty_part(self: Liveness, name: str, **limits: float) -> Component:
        return part(self, name, **(LIMITS if name == hasty else limits))

    def hanging_apply(self: IndexStore, record: Record) -> None:
        if (record.key or b"").startswith(b"hang"):
            threading.Event().wait()
        apply(self, record)

    Liveness.component = hasty_part  # type: ignore[method-assign]
    IndexStore.apply = hanging_apply  # type: ignore[method-assign]
    process.EXIT_TIMEOUT = EXIT_TIMEOUT  # type: ignore[misc]
    run(importlib.import_module(f"poise_services.{tier}.__main__").main)


if __name__ == "__main__":
    main()
