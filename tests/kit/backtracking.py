"""Finds texts on which a regular expression takes more than linear time, by an analysis of its automaton.

On a text that does not match, a backtracking engine takes one path for each way in which the automaton can read the
text. The number of ways is polynomial if two loops can read the same text and one leads to the other. It is exponential
if one loop can read a text in two ways (Weber and Seidl, "On the degree of ambiguity of finite automata", 1991;
Weideman et al., "Analyzing matching time behavior of backtracking regular expression matchers by using ambiguity of
NFA", 2016). A search tries each position of a text: this counts as one more loop before the pattern.

The engine backtracks only after a failure, so a loop is ignored if every text leads from it to a match. Constructs that
the analysis does not support (lookarounds of several characters, references to groups) are treated as if they matched
more texts than they do.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from re import _constants as sre  # type: ignore[attr-defined]  # the parser that `re` has; there is no public one
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, Final, Literal

Mode = Literal["search", "match", "fullmatch"]

_END: Final = -1
"""Stands for the missing character after the last one, or before the first one."""
_SAMPLE: Final = (*map(chr, range(128)), *"\x85\xa0éßﬁ‘’“”–…›٣中\u0301")
_CATEGORIES: Final = {"DIGIT": re.compile(r"\d"), "SPACE": re.compile(r"\s"), "WORD": re.compile(r"\w")}
_WORD: Final = frozenset(number for number, char in enumerate(_SAMPLE) if _CATEGORIES["WORD"].match(char))
_ALL: Final = frozenset(range(len(_SAMPLE)))
_LINE: Final = frozenset({_SAMPLE.index("\n")})
_LOOP_FROM: Final = 1_000
"""A repetition with at least this maximum counts as a loop; a smaller one multiplies the time by a constant."""

Chars = frozenset[int]


@dataclass(frozen=True, slots=True)
class _Step:
    """A transition that reads no character; its conditions are on the next and the previous character."""

    to: int
    after: Chars = _ALL | {_END}
    before: Chars | None = None
    """None = any previous character."""
    edge: bool | None = None
    """True: only at a boundary of a word (`\\b`); False: only elsewhere (`\\B`)."""
    sure: bool = True
    """False: the real condition is stricter than the one stored here."""


@dataclass(slots=True)
class _Automaton:
    steps: dict[int, list[_Step]] = field(default_factory=lambda: defaultdict(list))
    reads: dict[int, list[tuple[Chars, int]]] = field(default_factory=lambda: defaultdict(list))
    states: int = 0

    def new(self) -> int:
        self.states += 1
        return self.states - 1

    def step(self, start: int, end: int, **how: Any) -> None:
        self.steps[start].append(_Step(end, **how))


class _Builder:
    """Builds the automaton of a parsed pattern."""

    def __init__(self, flags: int) -> None:
        self.automaton = _Automaton()
        self._flags = flags
        self._groups: dict[int, Any] = {}

    def sequence(self, items: Iterable[tuple[Any, Any]], start: int) -> int:
        for op, value in items:
            start = self._item(str(op), value, start)
        return start

    def _item(self, op: str, value: Any, start: int) -> int:
        if (chars := self._chars(op, value)) is not None:
            end = self.automaton.new()
            self.automaton.reads[start].append((chars, end))
            return end
        kinds = {
            "SUBPATTERN": self._group,
            "ATOMIC_GROUP": self.sequence,
            "BRANCH": self._branch,
            "GROUPREF": self._reference,
        }
        if op in kinds:
            return kinds[op](value, start)
        return (self._repeat if op.endswith("REPEAT") else self._assertion)(op, value, start)

    def _group(self, value: Any, start: int) -> int:
        self._groups[value[0]] = value[3]
        return self.sequence(value[3], start)

    def _branch(self, value: Any, start: int) -> int:
        end = self.automaton.new()
        for branch in value[1]:
            self.automaton.step(self.sequence(branch, start), end)
        return end

    def _reference(self, value: Any, start: int) -> int:
        repeated = 1 if self._only(self._groups[value]) else sre.MAXREPEAT
        return self._repeat("MAX_REPEAT", (1, repeated, self._groups[value]), start)

    def _repeat(self, op: str, value: tuple[int, int, Any], start: int) -> int:
        least, most, body = value
        for _ in range(min(int(least), 2)):
            start = self.sequence(body, start)
        if most < _LOOP_FROM:
            end = self.automaton.new()
            for _ in range(min(int(most) - min(int(least), 2), 2)):
                self.automaton.step(start, end)
                start = self.sequence(body, start)
            self.automaton.step(start, end)
            return end
        loop, end = self.automaton.new(), self.automaton.new()
        self.automaton.step(start, loop)
        self.automaton.step(self.sequence(body, loop), loop)
        chars = self._only(body)
        left_by = (_ALL | {_END}) - chars if op == "POSSESSIVE_REPEAT" and chars is not None else _ALL | {_END}
        self.automaton.step(loop, end, after=left_by)
        return end

    def _assertion(self, op: str, value: Any, start: int) -> int:
        end = self.automaton.new()
        multiline = bool(self._flags & re.MULTILINE)
        if op == "AT":
            how: dict[str, dict[str, Any]] = {
                "AT_BEGINNING": {"before": (_LINE if multiline else frozenset()) | {_END}},
                "AT_BEGINNING_STRING": {"before": frozenset({_END})},
                "AT_END": {"after": _LINE | {_END}, "sure": multiline},
                "AT_END_STRING": {"after": frozenset({_END})},
                "AT_BOUNDARY": {"edge": True, "sure": False},
                "AT_NON_BOUNDARY": {"edge": False, "sure": False},
            }
            self.automaton.step(start, end, **how[str(value)])
            return end
        direction, body = value
        chars = self._only(body)
        if direction > 0 and chars is None:  # it has loops, and the pattern reads the same text again
            self.sequence(body, start)
        if chars is None:
            self.automaton.step(start, end, sure=False)
        else:
            allowed = chars if op == "ASSERT" else (_ALL | {_END}) - chars
            self.automaton.step(start, end, **{"after" if direction > 0 else "before": allowed})
        return end

    def _only(self, body: Any) -> Chars | None:
        """Return the characters of a body that matches exactly one character; None for other bodies."""
        items = list(body)
        if len(items) == 1 and str(items[0][0]) == "SUBPATTERN":
            return self._only(items[0][1][3])
        return self._chars(str(items[0][0]), items[0][1]) if len(items) == 1 else None

    def _chars(self, op: str, value: Any) -> Chars | None:
        match op:
            case "LITERAL":
                return self._matching(lambda char: ord(char) == value)
            case "NOT_LITERAL":
                return _ALL - self._matching(lambda char: ord(char) == value)
            case "ANY":
                return _ALL if self._flags & re.DOTALL else _ALL - _LINE
            case "IN":
                inner = [one for one in value if str(one[0]) != "NEGATE"]
                found = self._matching(lambda char: any(_is_in(char, str(kind), what) for kind, what in inner))
                return _ALL - found if len(inner) < len(value) else found
            case _:
                return None

    def _matching(self, matches: Callable[[str], bool]) -> Chars:
        found = set()
        for number, char in enumerate(_SAMPLE):
            cases = {char, char.lower(), char.upper()} if self._flags & re.IGNORECASE else {char}
            if any(len(case) == 1 and matches(case) for case in cases):
                found.add(number)
        return frozenset(found)


def _is_in(char: str, kind: str, what: Any) -> bool:
    if kind == "LITERAL":
        return bool(ord(char) == what)
    if kind == "RANGE":
        return bool(what[0] <= ord(char) <= what[1])
    name = str(what).removeprefix("CATEGORY_")
    return bool(_CATEGORIES[name.removeprefix("NOT_")].match(char)) is not name.startswith("NOT_")


State = tuple[str, int]
"""A state of the pattern, or of the search before it: then with the previous character."""
Loops = dict[State, frozenset[State]]
"""For each state on a loop: the states with which it shares a loop."""


class _Reader:
    """The automaton without transitions that read nothing: the next states by state and character, one for each way.

    Args:
        automaton: The automaton of the pattern.
        end: Its final state.
        mode: How the pattern is used.
    """

    def __init__(self, automaton: _Automaton, end: int, mode: Mode) -> None:
        self._automaton = automaton
        self._end = end
        self._mode = mode
        self.alphabet = _alike(automaton)
        self.goes: dict[State, dict[int, list[State]]] = {}
        self.matches: dict[State, Chars] = {}
        """By state: the next characters with which the pattern has certainly matched."""
        waiting: list[State] = [("search", _END)]
        while waiting:
            state = waiting.pop()
            if state not in self.goes:
                self._read(state)
                waiting += {to for targets in self.goes[state].values() for to in targets}

    def _read(self, state: State) -> None:
        goes: dict[int, list[State]] = defaultdict(list)
        kind, number = state
        if kind == "search" and self._mode == "search":
            for char in self.alphabet:
                goes[char].append(("search", char))
        matches = frozenset[int]()
        for at, after, sure in self._passed(0 if kind == "search" else number, number if kind == "search" else None):
            for chars, to in self._automaton.reads[at]:
                for char in chars & after & self.alphabet:
                    goes[char].append(("pattern", to))
            if at == self._end and sure:
                matches |= after & {_END} if self._mode == "fullmatch" else after
        self.goes[state], self.matches[state] = goes, matches

    def _passed(self, state: int, before: int | None) -> Iterator[tuple[int, Chars, bool]]:
        """Yield for each way that reads nothing: its last state, the next characters that allow it, its certainty."""
        ways: list[tuple[int, Chars, bool, frozenset[int]]] = [(state, _ALL | {_END}, True, frozenset())]
        while ways:
            at, after, sure, been = ways.pop()
            yield at, after, sure
            for step in self._automaton.steps[at]:
                if id(step) in been or (before is not None and step.before is not None and before not in step.before):
                    continue
                left = after & step.after
                if step.edge is not None and before is not None:
                    left = frozenset(char for char in left if ((char in _WORD) != (before in _WORD)) is step.edge)
                if left:
                    known = step.before is None or before is not None
                    ways.append((step.to, left, sure and step.sure and known, been | {id(step)}))


def _alike(automaton: _Automaton) -> Chars:
    """Return one character of each class of characters that the automaton does not distinguish."""
    sets = {chars for reads in automaton.reads.values() for chars, _ in reads}
    sets |= {chars for steps in automaton.steps.values() for one in steps for chars in (one.after, one.before or _ALL)}
    by_use = {tuple(char in chars for chars in (*sets, _WORD, _LINE)): char for char in _ALL}
    return frozenset(by_use.values())


def slow_on(pattern: str | bytes, flags: int = 0, mode: Mode = "search") -> str | None:
    """Return a text whose repetition makes a pattern take more than linear time; None if none is found.

    Args:
        pattern: The regular expression.
        flags: As for `re.compile`.
        mode: Whether it is tried at each position of a text, at its beginning only, or against all of it.
    """
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    parsed = parser.parse(text, flags)
    builder = _Builder(parsed.state.flags)
    start = builder.automaton.new()
    end = builder.sequence(parsed, start)
    reader = _Reader(builder.automaton, end, mode)
    loops = _loops(reader.goes)
    sure = _sure(reader)
    failing = _loops({state: goes for state, goes in reader.goes.items() if state not in sure})
    return _two_ways(reader, failing) or _two_loops(reader, loops, failing)


def _loops(goes: dict[State, dict[int, list[State]]]) -> Loops:
    """Return, for each state on a loop, the states with which it shares a loop."""
    reached: dict[State, set[State]] = {}
    for state in goes:
        found: set[State] = set()
        waiting = [state]
        while waiting:
            for targets in goes[waiting.pop()].values():
                new = (set(targets) & goes.keys()) - found
                found |= new
                waiting += new
        reached[state] = found
    return {
        state: frozenset(other for other in found if state in reached[other])
        for state, found in reached.items()
        if state in found
    }


def _sure(reader: _Reader) -> set[State]:
    """Return the states from which every text leads to a match."""
    sure = set(reader.goes)
    while True:
        left = {
            state
            for state in sure
            if all(
                char in reader.matches[state] or not sure.isdisjoint(reader.goes[state].get(char, ()))
                for char in (*reader.alphabet, _END)
            )
        }
        if left == sure:
            return sure
        sure = left


def _two_ways(reader: _Reader, failing: Loops) -> str | None:
    """Return a text that one loop can read in two ways (exponential time); None if there is none."""
    for first, within in failing.items():
        begin: list[tuple[State, State, str]] = []
        for char, targets in reader.goes[first].items():
            inside = [to for to in targets if to in within]
            begin += [
                (one, other, _SAMPLE[char])
                for number, one in enumerate(inside)
                for other in inside[number + 1 :]
                if first[0] == "pattern"
            ]
        seen = set()
        while begin:
            one, other, text = begin.pop()
            if one == other == first:
                return text
            if (one, other) in seen:
                continue
            seen.add((one, other))
            for char in reader.goes[one].keys() & reader.goes[other].keys():
                pairs = product(reader.goes[one][char], reader.goes[other][char])
                begin += [(a, b, text + _SAMPLE[char]) for a, b in pairs if a in within and b in within]
    return None


def _two_loops(reader: _Reader, loops: Loops, failing: Loops) -> str | None:
    """Return a text that two loops can read and that leads from one to the other (polynomial time), or None."""
    for last, lasts in failing.items():
        chars = {char for state in lasts for char, to in reader.goes[state].items() if lasts & set(to)}
        for first, firsts in loops.items():
            if last[0] == "search" or first in lasts or (first[0] == "search" and first[1] not in chars):
                continue
            if (text := _led(reader, (first, firsts), (last, lasts), chars)) is not None:
                return text
    return None


def _led(
    reader: _Reader, first: tuple[State, frozenset[State]], last: tuple[State, frozenset[State]], chars: set[int]
) -> str | None:
    """Return a text that leads around the first loop, from it to the last, and around the last, without a match."""
    goes = reader.goes
    waiting = [(first[0], first[0], last[0], frozenset({last[0]}), "")]
    seen = set()
    while waiting:
        a, b, c, ways, text = waiting.pop()
        if text and (a, b, c) == (first[0], last[0], last[0]):
            return text
        if (a, b, c, ways) in seen:
            continue
        seen.add((a, b, c, ways))
        for char in chars & goes[a].keys() & goes[b].keys() & goes[c].keys():
            if any(char in reader.matches[state] for state in ways):
                continue  # the rest of the pattern matches, so the engine does not backtrack
            left = frozenset(to for state in ways for to in goes[state].get(char, ()))
            for x, y, z in product(goes[a][char], goes[b][char], goes[c][char]):
                if x in first[1] and z in last[1]:
                    waiting.append((x, y, z, left, text + _SAMPLE[char]))
    return None
