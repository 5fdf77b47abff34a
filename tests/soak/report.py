"""The report of a soak: each kind of injection joined to its own results and to the asks that were under way."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.soak.injection import Injected
from tests.soak.load import Load
from tests.soak.memory import Memory, flat

SHOWN: Final = 6
"""Results of a kind that are shown, the most frequent first."""


@dataclass(frozen=True)
class Report:
    """What happened."""

    seed: int
    time: tuple[float, float]
    """When it began and when it ended, unix seconds."""
    load: Load
    injections: Sequence[Injected]
    readiness: Mapping[str, bool]
    deaths: Mapping[str, int]
    """Processes that ended by themselves, and were started again, by name."""
    memory: Memory
    behind: str | None
    """Which groups had not handled what they were sent, long after the end."""

    @property
    def wrong(self) -> list[str]:
        """The broken promises, except for memory use, which shows only over time."""
        history = self.load.history
        found = [f"silence: {one.by}, sent {one.sent:.0f}" for one in history if one.silent]
        found += [f"forged words were seen: {one.by}" for one in history if one.forged]
        found += [f"{one.kind}: {one.result}" for one in self.injections if not one.right]
        found += [f"not ready: {name}" for name, ready in self.readiness.items() if not ready]
        found += [self.behind] if self.behind else []
        return found

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept."""
        grown = self.memory.grown()
        return self.wrong + [f"{n}: {was:.0f} → {now:.0f} MB" for n, (was, now) in grown.items() if not flat(was, now)]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

    def text(self) -> str:
        """All of it, to be read."""
        history = self.load.history
        accepted = [one for one in history if one.accepted]
        lines = [
            f"soak: seed {self.seed}, {(self.time[1] - self.time[0]) / 60:.1f} min, {len(history):,} asks",
            f"  {len(accepted):,} accepted: {_counted(one.outcome or 'silence' for one in accepted)}",
            f"  not accepted: {_counted(one.outcome or 'silence' for one in history if not one.accepted) or 'none'}",
            f"  processes that ended by themselves: {dict(self.deaths) or 'none'}",
            "",
        ]
        for kind in sorted({one.kind for one in self.injections}):
            of_kind = [one for one in self.injections if one.kind == kind]
            beside: Counter[str] = Counter()
            for one in of_kind:
                beside += self.load.outcomes(one.began, one.ended)
            lines += [
                f"{kind}: {len(of_kind)}, {sum(one.right for one in of_kind)} as promised",
                f"    came of it:    {_counted(one.result for one in of_kind)}",
                f"    asks meanwhile: {_counted(beside.elements())}",
            ]
        grown = self.memory.grown()
        lines += ["", "memory, early → late: " + ", ".join(f"{n} {a:.0f} → {b:.0f} MB" for n, (a, b) in grown.items())]
        lines += ["", "every promise was kept" if self.kept else "NOT KEPT:", *(f"  {one}" for one in self.broken[:40])]
        return "\n".join(lines) + "\n"


def _counted(what: Iterable[str]) -> str:
    return "; ".join(f"{count} × {name}" for name, count in Counter(what).most_common(SHOWN))
