"""The report of a soak: each kind of injection with its results and the outcomes of the asks in flight."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.soak.injection import Injection
from tests.soak.load import SoakLoad
from tests.soak.memory import Memory, is_flat

SHOWN: Final = 6
"""Maximum number of results shown of a kind, the most frequent first."""


@dataclass(frozen=True)
class Report:
    """The results of a soak."""

    seed: int
    time: tuple[float, float]
    """Start and end, unix seconds."""
    load: SoakLoad
    injections: Sequence[Injection]
    readiness: Mapping[str, bool]
    deaths: Mapping[str, int]
    """By name, how often a process ended by itself and was restarted."""
    memory: Memory
    unsettled: str | None
    """The groups with unhandled records long after the end."""

    @property
    def wrong(self) -> list[str]:
        """Return the broken promises except memory growth, which only a long soak shows."""
        history = self.load.history
        found = [f"silence: {ask.by}, sent {ask.sent:.0f}" for ask in history if ask.silent]
        found += [f"forged text was received: {ask.by}" for ask in history if ask.forged]
        found += [f"{injection.kind}: {injection.result}" for injection in self.injections if not injection.as_promised]
        found += [f"not ready: {name}" for name, ready in self.readiness.items() if not ready]
        found += [self.unsettled] if self.unsettled else []
        return found

    @property
    def broken(self) -> list[str]:
        """Return all broken promises."""
        growth = self.memory.growth()
        return self.wrong + [
            f"{n}: {was:.0f} → {now:.0f} MB" for n, (was, now) in growth.items() if not is_flat(was, now)
        ]

    @property
    def passed(self) -> bool:
        """Return whether every promise was kept."""
        return not self.broken

    def text(self) -> str:
        """Return the report as text."""
        history = self.load.history
        accepted = [ask for ask in history if ask.accepted]
        lines = [
            f"soak: seed {self.seed}, {(self.time[1] - self.time[0]) / 60:.1f} min, {len(history):,} asks",
            f"  {len(accepted):,} accepted: {_counted(ask.outcome or 'silence' for ask in accepted)}",
            f"  not accepted: {_counted(ask.outcome or 'silence' for ask in history if not ask.accepted) or 'none'}",
            f"  processes that ended by themselves: {dict(self.deaths) or 'none'}",
            "",
        ]
        for kind in sorted({injection.kind for injection in self.injections}):
            of_kind = [injection for injection in self.injections if injection.kind == kind]
            meanwhile: Counter[str] = Counter()
            for injection in of_kind:
                meanwhile += self.load.outcomes(injection.began, injection.ended)
            lines += [
                f"{kind}: {len(of_kind)}, {sum(injection.as_promised for injection in of_kind)} as promised",
                f"    results:        {_counted(injection.result for injection in of_kind)}",
                f"    asks meanwhile: {_counted(meanwhile.elements())}",
            ]
        growth = self.memory.growth()
        lines += ["", "memory, early → late: " + ", ".join(f"{n} {a:.0f} → {b:.0f} MB" for n, (a, b) in growth.items())]
        lines += [
            "",
            "every promise was kept" if self.passed else "NOT KEPT:",
            *(f"  {promise}" for promise in self.broken[:40]),
        ]
        return "\n".join(lines) + "\n"


def _counted(what: Iterable[str]) -> str:
    return "; ".join(f"{count} × {name}" for name, count in Counter(what).most_common(SHOWN))
