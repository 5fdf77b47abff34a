"""Stack: Kafka, Valkey, a model server and workers, started together, supervised, and stopped in order."""

import asyncio
import os
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from types import MappingProxyType
from typing import Any, Self

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.stack import external, plan, state
from poise.stack.events import EventListener, StackEvent, ignore_event
from poise.stack.managed_process import ManagedProcess
from poise.stack.options import StackOptions
from poise.stack.plan import PartAddresses, StartPlan
from poise.stack.state import PartState, StackState
from poise.stack.supervisor import Supervisor
from poise.stack.worker import Worker


class Stack:
    """A whole mesh on this machine; `async with Stack(StackOptions()) as stack: stack.broker`.

    Services named in `options.external` are used as they are; everything else runs as child processes, which end with
    this process in every case. A part that ends is restarted. The stack must be started from the main thread.

    Args:
        options: Its options.
        on_event: Called with each event.
    """

    def __init__(self, options: StackOptions, *, on_event: EventListener = ignore_event) -> None:
        self.options = options
        self._on_event = on_event
        self._began = time.time()
        self._ready = False
        self._plan: StartPlan | None = None
        self._supervisors: dict[str, Supervisor] = {}
        self._lock = ExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- starting and stopping ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything, and return when the mesh answers.

        Raises:
            SetupError: A part cannot be started; those that were started are stopped. The message says what to do.
        """
        self._began = time.time()
        self._lock.enter_context(state.lock(self.options.directory))
        try:
            self._write_state()
            await external.check(self.options.external)
            self._plan = plan.make_plan(self.options, self._say)
            self._write_state()
            await _together(self._start_kafka(self._plan), *map(self._start, (self._plan.valkey, self._plan.model)))
            await _together(*map(self._start, self._plan.workers))
        except BaseException:
            await self.stop()
            raise
        self._ready = True
        self._write_state()

    async def stop(self) -> None:
        """Stop everything that was started: workers first, because they need the servers until they have drained."""
        self._ready = False
        if self._plan is not None:
            await asyncio.gather(*(self._stop(worker) for worker in self._plan.workers))
            for part in self._plan.servers:
                await self._stop(part)
        self._lock.close()

    def kill(self) -> None:
        """Kill what still runs, if stopping takes too long. `stop` must be running, or be called afterwards."""
        for part in (*self._active_plan.workers, *self._active_plan.servers) if self._plan else ():
            part.kill()

    async def stop_part(self, name: str) -> None:
        """Stop one part; it is not restarted.

        Args:
            name: As `poise status` shows it.

        Raises:
            SetupError: The stack does not run such a part.
        """
        await self._stop(self._named(name))
        self._write_state()

    async def start_part(self, name: str, *, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start a part that was stopped, at its previous address.

        Args:
            name: As `poise status` shows it.
            environment: For a worker: variables that override the stack's until it is started by this method again.

        Raises:
            SetupError: The stack does not run such a part, or it does not start.
        """
        part = self._named(name)
        if isinstance(part, Worker):
            part.overrides = environment
        await self._start(part)

    async def restart_part(self, name: str, *, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Stop a part and start it again; see `start_part`."""
        await self.stop_part(name)
        await self.start_part(name, environment=environment)

    def _named(self, name: str) -> ManagedProcess:
        parts = {part.name: part for part in (*self._active_plan.workers, *self._active_plan.servers)}
        if name not in parts:
            raise SetupError(f"this stack has no part {name!r}, only {', '.join(parts)}")
        return parts[name]

    async def _start_kafka(self, start_plan: StartPlan) -> None:
        # Importing the Kafka client takes half as long as Kafka takes to start, so both run at once.
        loading = asyncio.create_task(asyncio.to_thread(import_module, "poise.kafka.topic_setup"))
        await self._start(start_plan.kafka)
        began = time.monotonic()
        topics = await loading
        await topics.apply(MeshSettings.load().model_copy(update={"broker": start_plan.addresses.broker}))
        self._on_event(StackEvent("topics", "ready", "", time.monotonic() - began))

    async def _start(self, part: ManagedProcess | None) -> None:
        if part is not None:
            supervisor = self._supervisors[part.name] = Supervisor(part, self._on_event, self._write_state)
            await supervisor.start()

    async def _stop(self, part: ManagedProcess) -> None:
        supervisor = self._supervisors.pop(part.name, None)
        if supervisor is not None:
            await supervisor.stop()

    def _say(self, line: str) -> None:
        self._on_event(StackEvent("stack", "note", line))

    # -- addresses and state ------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> PartAddresses:
        """The addresses: `broker`, `redis_url`, `gateway_url`, `model_url`, `model_name`."""
        return self._active_plan.addresses

    @property
    def broker(self) -> str:
        """Kafka's bootstrap servers."""
        return self.addresses.broker

    @property
    def redis_url(self) -> str:
        """The URL of Redis or Valkey."""
        return self.addresses.redis_url

    @property
    def gateway_url(self) -> str | None:
        """The first gateway's address; None without a gateway."""
        return self.addresses.gateway_url

    @property
    def model_url(self) -> str | None:
        """The model server's base address; None if the environment names the model servers."""
        return self.addresses.model_url

    @property
    def backends(self) -> Mapping[str, Mapping[str, Any]]:
        """The model servers of the inference workers by backend name, in the form of their setting; with API keys."""
        return self._active_plan.backends

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers, each with `tier`, `instance`, `pid` and `admin_url`."""
        return self._active_plan.workers

    def state(self) -> StackState:
        """Return the state, as written to the state file."""
        addresses = asdict(self._plan.addresses) if self._plan else {}
        parts = tuple(self._part_states(self._plan)) if self._plan else ()
        return StackState(pid=os.getpid(), ready=self._ready, since=self._began, parts=parts, **addresses)

    def _part_states(self, start_plan: StartPlan) -> Iterator[PartState]:
        addresses = start_plan.addresses
        used = (
            ("kafka", start_plan.kafka, addresses.broker),
            ("redis", start_plan.valkey, addresses.redis_url),
            ("model", start_plan.model, addresses.model_url),
        )
        for name, part, address in used:
            if part is not None:
                yield self._part_state(part)
            elif address:
                yield PartState(name=name, ours=False, address=address)
        for worker in start_plan.workers:
            yield self._part_state(worker)

    def _part_state(self, part: ManagedProcess) -> PartState:
        supervisor = self._supervisors.get(part.name)
        serves = supervisor is not None and part.since is not None
        return PartState(
            name=part.name,
            tier=part.tier if isinstance(part, Worker) else None,
            pid=part.child.pid if serves else None,
            address=part.address,
            since=part.since,
            log=part.log.absolute(),
            restarts=supervisor.restarts if supervisor else 0,
        )

    @property
    def _active_plan(self) -> StartPlan:
        if self._plan is None:
            raise RuntimeError("the stack was not started")
        return self._plan

    def _write_state(self) -> None:
        state.write_state(self.options.directory, self.state())


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently; if one fails, cancel the others and raise its error unwrapped."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
