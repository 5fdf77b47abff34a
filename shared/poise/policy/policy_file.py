"""The policy file: a policy in TOML; errors are reported with their lines.

It is the same file that `POISE_CONFIG` names: names and weights stand in `[[orchestration.variants]]`, where else the
variants are described, and what the loop may do in `[policy]`.

    [orchestration]
    policy = "answer"            # its name; "answer" by default

    [[orchestration.variants]]
    name = "steady"
    weight = 0.9

    [[orchestration.variants]]
    name = "cheap"
    weight = 0.1

    [policy]
    min_share = 0.05             # the least share that each keeps
    step = 0.5                   # the largest change of one share in one decision
    mean_answers_between_false_alarms = 50_000
    min_score = 0.6              # the range: the least mean of the score that steers
    max_latency = 4.0            # seconds for 95 % of a variant's answers
    max_cost = 0.002             # for 95 % of them

Without `[policy]` the limits are those of `Limits`, which steer by quality and set no ceiling.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from poise.config import toml_lines
from poise.contracts.ask import NAME
from poise.contracts.bounds import MAX_QUANTITY
from poise.contracts.policy import Limits, PolicySpec
from poise.errors import SetupError
from poise.text.error_text import error_message

DEFAULT_NAME: Final = "answer"

STEERING_SCORES: Final = ("quality", "raw_groundedness", "raw_relevance")
"""The scores that may steer: 0 to 1, more is better, and of the drawn variant's own output."""

SETTING_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "min_share": "the least share of the draws that each variant keeps",
    "step": "the largest change of one variant's share in one decision",
    "cooldown_answers": "scored answers between two steps of one move",
    "mean_answers_between_false_alarms": "scored answers between two false alarms, on average",
    "margin": "how much worse than the others a variant may be and count as recovered",
    "score": "the score that steers",
    "min_score": "the least mean of the score that steers",
    "max_latency": "seconds within which a variant writes 95 % of its answers",
    "max_cost": "what 95 % of a variant's answers cost at most",
}
"""The description of each setting of `[policy]`."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    "name": "the policy's name stands in [orchestration], as policy",
    "weights": "weights stand with the variants, in [[orchestration.variants]]",
    "weight": "weights stand with the variants, in [[orchestration.variants]]",
    "variants": "variants stand in [[orchestration.variants]]",
    "dry_run": "to decide and not act, give the option --dry-run when you set the file",
}
_KNOWN: Final = tuple(Limits.model_fields)
_LONGEST: Final = 256 * 1024
"""Bytes of a file."""
_LONGEST_LINE: Final = 10_000
"""Characters of a line: tomllib takes quadratic time for a key of many parts."""
_SHOWN: Final = 40
"""Characters of a wrong value in an error message."""


class PolicyFileError(SetupError):
    """A policy file is invalid; `problems` has one line for each error."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read(path: Path) -> PolicySpec:
    """Read a policy file.

    Raises:
        PolicyFileError: The file cannot be read or is invalid: one line `FILE:LINE: what, and why` for each error.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyFileError([_syntax(path, text, error)]) from error
    except RecursionError as error:
        raise PolicyFileError([f"{path}: it is nested too deeply to be read"]) from error
    except ValueError as error:  # of an integer with thousands of digits, or a date that there is not
        raise PolicyFileError([f"{path}: has a value that cannot be read: {error}"]) from error
    checked = _Validator(document)
    name, weights, limits = checked.name(), checked.weights(), checked.limits()
    checked.tables()
    if weights and limits is not None:
        checked.room(weights, limits)
    if checked.problems or limits is None:
        lines = _firsts(toml_lines.key_lines(text))
        found = sorted((_line(lines, where), what) for where, what in checked.problems)
        raise PolicyFileError([f"{path}:{line}: {what}" for line, what in found])
    return PolicySpec(name=name, weights=weights, limits=limits)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyFileError([f"{path}: cannot be read: {error.strerror or error_message(error)}"]) from error
    if len(raw) > _LONGEST:
        raise PolicyFileError([f"{path}: has {len(raw)} bytes, of {_LONGEST} that a policy may have"])
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows begin a file with a mark, which TOML does not know
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyFileError([f"{path}:{line}: is no UTF-8: save the file in that encoding"]) from error
    text = text.replace("\r\n", "\n")
    for number, length in enumerate(map(len, text.split("\n")), 1):
        if length > _LONGEST_LINE:
            what = f"the line has {length} characters, of {_LONGEST_LINE} that one may have"
            raise PolicyFileError([f"{path}:{number}: {what}"])
    return text


def _syntax(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    what, _, where = str(error).rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", where)
    if found:
        return f"{path}:{found[1]}: is no TOML: {what}, at column {found[2]}"
    return f"{path}:{toml_lines.line_of_syntax_error(text)}: is no TOML: {what}: what begins here is not finished"


def _firsts(lines: Mapping[toml_lines.KeyPath, int]) -> dict[toml_lines.KeyPath, int]:
    """Return the first line of each path or, if it has none itself, of its contents."""
    firsts: dict[toml_lines.KeyPath, int] = {}
    for path, line in lines.items():
        for length in range(1, len(path) + 1):
            firsts[path[:length]] = min(line, firsts.get(path[:length], line))
    return firsts


def _line(lines: Mapping[toml_lines.KeyPath, int], where: toml_lines.KeyPath) -> int:
    """Return the line of a path, else of its nearest parent, else 1."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)


class _Validator:
    """Validates a document; `problems` has the path and the description of each error."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.problems: list[tuple[toml_lines.KeyPath, str]] = []
        self._document = document
        orchestration = self._table("orchestration")
        self._orchestration, self._policy = orchestration, self._table("policy")

    def _fault(self, where: toml_lines.KeyPath, what: str) -> None:
        self.problems.append((where, what))

    def _table(self, name: str) -> dict[str, Any]:
        found = self._document.get(name, {})
        if isinstance(found, dict):
            return found
        self._fault((name,), f"{name} is {_shown(found)}: write a table, [{name}]")
        return {}

    def tables(self) -> None:
        """Report tables with a misspelled name, which would be ignored silently."""
        for name in self._document:
            near = get_close_matches(name, ("policy", "orchestration"), 1, 0.75)
            if near and name != near[0]:
                self._fault((name,), f"[{name}] means nothing: did you mean [{near[0]}]?")

    def name(self) -> str:
        """Return the policy's name."""
        name = self._orchestration.get("policy", DEFAULT_NAME)
        self._named(("orchestration", "policy"), name, "[orchestration] policy")
        return str(name)

    def _named(self, where: toml_lines.KeyPath, name: object, what: str) -> bool:
        if isinstance(name, str) and re.fullmatch(NAME, name):
            return True
        self._fault(where, f"{what} = {_shown(name)}: a name has 1 to 80 letters, digits, dots, dashes or underscores")
        return False

    def weights(self) -> dict[str, float]:
        """Return the weights by variant."""
        where: toml_lines.KeyPath = ("orchestration", "variants")
        variants = self._orchestration.get("variants", [])
        if not isinstance(variants, list) or not all(isinstance(variant, dict) for variant in variants):
            self._fault(where, "variants are tables of their own: write [[orchestration.variants]] above each")
            return {}
        if not variants:
            self._fault(where, "there is no variant: name each, with its weight, in [[orchestration.variants]]")
            return {}
        weights: dict[str, float] = {}
        for number, variant in enumerate(variants):
            weight = self._weight((*where, number), variant)
            name = variant.get("name")
            if name is None:
                self._fault((*where, number), "a variant without a name: give it one")
            elif self._named((*where, number, "name"), name, "name"):
                if name in weights:
                    self._fault((*where, number, "name"), f"two variants have the name {_shown(name)}")
                weights[name] = weight
        sound = not any(path[: len(where)] == where for path, _ in self.problems)
        if sound and not any(weights.values()):
            self._fault((*where, 0), "no variant has a weight above zero: nothing could be drawn")
        return weights

    def _weight(self, where: toml_lines.KeyPath, variant: Mapping[str, Any]) -> float:
        for key in variant:
            near = get_close_matches(key, ("name", "weight"), 1, 0.75)
            if near and key != near[0]:
                self._fault((*where, key), f"a variant has no {key}: did you mean {near[0]}?")
        weight = variant.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            self._fault((*where, "weight"), f"weight = {_shown(weight)}: write a number, its share among all weights")
        elif not 0 <= weight <= MAX_QUANTITY:  # no number that is none, either
            self._fault((*where, "weight"), f"weight = {_shown(weight)}: it is 0 or more, and {MAX_QUANTITY:g} at most")
        else:
            return float(weight)
        return 0.0

    def limits(self) -> Limits | None:
        """Return the limits; None = they are invalid."""
        for key in set(self._policy) - set(_KNOWN):
            if new := Limits.renamed.get(key):
                self._fault(("policy", key), f"[policy] {key} was renamed: set {new}")
                continue
            near = get_close_matches(key, _KNOWN, 1)
            hint = _ELSEWHERE.get(key) or (f"did you mean {near[0]}?" if near else f"there are {', '.join(_KNOWN)}")
            self._fault(("policy", key), f"[policy] has no setting {key}: {hint}")
        said = {key: value for key, value in self._policy.items() if key in _KNOWN}
        infinite = {key for key, value in said.items() if isinstance(value, float) and not math.isfinite(value)}
        for key in infinite:
            hint = "; leave it out where there is none" if key in {"min_score", "max_latency", "max_cost"} else ""
            self._fault(("policy", key), f"{key} = {_shown(said.pop(key))}: write a number that is finite{hint}")
        score = said.get("score", STEERING_SCORES[0])
        if isinstance(score, str) and score not in STEERING_SCORES:
            self._fault(
                ("policy", "score"), f"score = {_shown(score)}: {_why_not(score)}; {', '.join(STEERING_SCORES)} may"
            )
        try:
            return Limits.model_validate(said, strict=True)
        except ValidationError as error:
            for item in error.errors():
                key = str(item["loc"][0])
                self._fault(
                    ("policy", key), f"{key} = {_shown(said[key])}: {_bound(item)}: it is {SETTING_DESCRIPTIONS[key]}"
                )
            return None

    def room(self, weights: Mapping[str, float], limits: Limits) -> None:
        """Report a `min_share` that is too high for the variants, and a cost ceiling without prices."""
        drawn = sum(weight > 0 for weight in weights.values())
        priced = any("input_token_price" in variant for variant in self._orchestration["variants"])
        if limits.max_cost is not None and not priced:
            self._fault(
                ("policy", "max_cost"),
                f"max_cost = {limits.max_cost:g}: what an answer costs is not known: "
                "give the variants input_token_price and output_token_price",
            )
        if drawn * limits.min_share > 1:
            self._fault(
                ("policy", "min_share"),
                f"min_share = {limits.min_share:g}: {drawn} variants cannot each keep {limits.min_share:.0%} "
                f"of the draws: {math.floor(1_000 / drawn) / 1_000:g} at most",
            )


def _shown(value: object) -> str:
    """Return a short text of a value, roughly as in TOML."""
    kinds: Mapping[type, str] = {dict: "a table", list: "an array"}
    if type(value) in kinds:
        return kinds[type(value)]
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_BOUNDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than": lambda context: f"write more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"write {context['ge']:g} or more",
    "less_than_equal": lambda context: f"write {context['le']:g} or less",
    "float_type": lambda _: "write a number",
    "int_type": lambda _: "write a whole number",
    "string_type": lambda _: "write a text",
}


def _bound(item: Any) -> str:
    told = _BOUNDS.get(item["type"])
    return str(item["msg"]) if told is None else told(item.get("ctx", {}))


def _why_not(score: str) -> str:
    if score.startswith("latency_ms") or score in {"raw_ms", "raw_cost"}:
        return "times and costs are bounded by the ceilings max_latency and max_cost, and do not steer"
    if score == "groundedness":
        return "what was sent may be another variant's, so it does not steer"
    if score in {"raw_fault", "empty", "degenerate", "truncated", "refused", "error"}:
        return "it counts what went wrong; quality, which is 0 then, takes it in"
    near = get_close_matches(score, STEERING_SCORES, 1)
    return f"no such score{f', did you mean {near[0]}?' if near else ''}"
