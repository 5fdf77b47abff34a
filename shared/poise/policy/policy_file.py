"""The policy file: a policy in TOML; errors are reported with their lines.

It is the file that `POISE_CONFIG` names. `[[orchestration.variants]]` has the names and weights, together with the
other settings of the variants; `[policy]` has the limits of the loop.

    [orchestration]
    policy = "answer"            # its name; "answer" by default

    [[orchestration.variants]]
    name = "steady"
    weight = 0.9

    [[orchestration.variants]]
    name = "cheap"
    weight = 0.1

    [policy]
    min_share = 0.05             # the minimum share of each variant
    step = 0.5                   # the maximum change of one share in one decision
    mean_answers_between_false_alarms = 50_000
    min_score = 0.6              # the range: the minimum mean of the score that steers
    max_latency = 4.0            # seconds for 95 % of a variant's answers
    max_cost = 0.002             # for 95 % of a variant's answers

Without `[policy]`, the defaults of `Limits` apply: quality steers, and there is no ceiling.
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
from poise.contracts.ask import NAME_PATTERN
from poise.contracts.bounds import MAX_QUANTITY
from poise.contracts.policy import Limits, PolicySpec
from poise.errors import SetupError
from poise.text.error_text import error_message

DEFAULT_POLICY: Final = "answer"

STEERING_SCORES: Final = ("quality", "raw_groundedness", "raw_relevance")
"""The scores that may steer. They are 0 to 1, more is better, and they score the drawn variant's own output."""

SETTING_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "min_share": "the minimum share of the draws for each variant",
    "step": "the maximum change of one variant's share in one decision",
    "cooldown_answers": "the number of scored answers between two changes of a share",
    "mean_answers_between_false_alarms": "the mean number of scored answers between two false alarms",
    "margin": "how much worse than the others a recovered variant may be",
    "score": "the score that steers",
    "min_score": "the minimum mean of the score that steers",
    "max_latency": "seconds within which a variant writes 95 % of its answers",
    "max_cost": "the maximum cost of 95 % of a variant's answers",
}
"""The description of each setting of `[policy]`."""

_SET_ELSEWHERE: Final[Mapping[str, str]] = {
    "name": "set the policy's name in [orchestration], as policy",
    "weights": "set the weight of each variant in [[orchestration.variants]]",
    "weight": "set the weight of each variant in [[orchestration.variants]]",
    "variants": "define the variants in [[orchestration.variants]]",
    "dry_run": "use the option --dry-run when you set the file",
}
_SETTINGS: Final = tuple(Limits.model_fields)
_MAX_FILE_BYTES: Final = 256 * 1024
"""Maximum size of a file in bytes."""
_MAX_LINE_LENGTH: Final = 10_000
"""Maximum length of a line in characters: tomllib takes quadratic time for a key of many parts."""
_MAX_SHOWN: Final = 40
"""Maximum number of characters of a value in an error message."""


class PolicyFileError(SetupError):
    """A policy file is invalid; `problems` has one line for each error."""

    status = HTTPStatus.BAD_REQUEST

    def __init__(self, problems: Collection[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read(path: Path) -> PolicySpec:
    """Read a policy file.

    Raises:
        PolicyFileError: The file cannot be read or is invalid: one line `FILE:LINE: problem and remedy` for each error.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyFileError([_syntax(path, text, error)]) from error
    except RecursionError as error:
        raise PolicyFileError([f"{path}: its tables are nested too deeply"]) from error
    except ValueError as error:  # an integer with thousands of digits, or an invalid date
        raise PolicyFileError([f"{path}: has a value that cannot be read: {error}"]) from error
    checked = _Validator(document)
    name, weights, limits = checked.name(), checked.weights(), checked.limits()
    checked.check_tables()
    if weights and limits is not None:
        checked.check_shares_and_prices(weights, limits)
    if checked.problems or limits is None:
        lines = _first_lines(toml_lines.key_lines(text))
        found = sorted((_line(lines, where), what) for where, what in checked.problems)
        raise PolicyFileError([f"{path}:{line}: {what}" for line, what in found])
    return PolicySpec(name=name, weights=weights, limits=limits)


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyFileError([f"{path}: cannot be read: {error.strerror or error_message(error)}"]) from error
    if len(raw) > _MAX_FILE_BYTES:
        raise PolicyFileError([f"{path}: has {len(raw)} bytes; the maximum is {_MAX_FILE_BYTES}"])
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows write a byte order mark, which TOML rejects
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyFileError([f"{path}:{line}: is not UTF-8: save the file in that encoding"]) from error
    text = text.replace("\r\n", "\n")
    for number, length in enumerate(map(len, text.split("\n")), 1):
        if length > _MAX_LINE_LENGTH:
            what = f"the line has {length} characters; the maximum is {_MAX_LINE_LENGTH}"
            raise PolicyFileError([f"{path}:{number}: {what}"])
    return text


def _syntax(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    what, _, where = str(error).rpartition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", where)
    if found:
        return f"{path}:{found[1]}: is not valid TOML: {what}, at column {found[2]}"
    line = toml_lines.line_of_syntax_error(text)
    return f"{path}:{line}: is not valid TOML: {what}: the value that begins here is not closed"


def _first_lines(lines: Mapping[toml_lines.KeyPath, int]) -> dict[toml_lines.KeyPath, int]:
    """Return the first line of each path or, if it has none itself, of its contents."""
    first_lines: dict[toml_lines.KeyPath, int] = {}
    for path, line in lines.items():
        for length in range(1, len(path) + 1):
            first_lines[path[:length]] = min(line, first_lines.get(path[:length], line))
    return first_lines


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
        self._fault((name,), f"{name} is {_format_value(found)}: write a table, [{name}]")
        return {}

    def check_tables(self) -> None:
        """Report tables with a misspelled name: they would be ignored silently."""
        for name in self._document:
            near = get_close_matches(name, ("policy", "orchestration"), 1, 0.75)
            if near and name != near[0]:
                self._fault((name,), f"[{name}] is unknown: did you mean [{near[0]}]?")

    def name(self) -> str:
        """Return the policy's name."""
        name = self._orchestration.get("policy", DEFAULT_POLICY)
        self._check_name(("orchestration", "policy"), name, "[orchestration] policy")
        return str(name)

    def _check_name(self, where: toml_lines.KeyPath, name: object, what: str) -> bool:
        if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name):
            return True
        self._fault(
            where, f"{what} = {_format_value(name)}: a name has 1 to 80 letters, digits, dots, dashes or underscores"
        )
        return False

    def weights(self) -> dict[str, float]:
        """Return the weights by variant."""
        where: toml_lines.KeyPath = ("orchestration", "variants")
        variants = self._orchestration.get("variants", [])
        if not isinstance(variants, list) or not all(isinstance(variant, dict) for variant in variants):
            self._fault(where, "variants must be an array of tables: write [[orchestration.variants]] above each")
            return {}
        if not variants:
            self._fault(where, "there is no variant: define each, with its weight, in [[orchestration.variants]]")
            return {}
        weights: dict[str, float] = {}
        for number, variant in enumerate(variants):
            weight = self._weight((*where, number), variant)
            name = variant.get("name")
            if name is None:
                self._fault((*where, number), "the variant has no name: add one")
            elif self._check_name((*where, number, "name"), name, "name"):
                if name in weights:
                    self._fault((*where, number, "name"), f"two variants have the name {_format_value(name)}")
                weights[name] = weight
        valid = not any(path[: len(where)] == where for path, _ in self.problems)
        if valid and not any(weights.values()):
            self._fault((*where, 0), "no variant has a weight above zero: nothing could be drawn")
        return weights

    def _weight(self, where: toml_lines.KeyPath, variant: Mapping[str, Any]) -> float:
        for key in variant:
            near = get_close_matches(key, ("name", "weight"), 1, 0.75)
            if near and key != near[0]:
                self._fault((*where, key), f"a variant has no setting {key}: did you mean {near[0]}?")
        weight = variant.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            self._fault((*where, "weight"), f"weight = {_format_value(weight)}: write a number")
        elif not 0 <= weight <= MAX_QUANTITY:  # also rejects NaN
            self._fault((*where, "weight"), f"weight = {_format_value(weight)}: write 0 to {MAX_QUANTITY:g}")
        else:
            return float(weight)
        return 0.0

    def limits(self) -> Limits | None:
        """Return the limits; None = they are invalid."""
        for key in set(self._policy) - set(_SETTINGS):
            if new := Limits.renamed.get(key):
                self._fault(("policy", key), f"[policy] {key} was renamed: set {new}")
                continue
            near = get_close_matches(key, _SETTINGS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_SETTINGS)}"
            hint = _SET_ELSEWHERE.get(key, hint)
            self._fault(("policy", key), f"[policy] has no setting {key}: {hint}")
        values = {key: value for key, value in self._policy.items() if key in _SETTINGS}
        infinite = {key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)}
        for key in infinite:
            hint = "; omit it for no limit" if key in {"min_score", "max_latency", "max_cost"} else ""
            self._fault(("policy", key), f"{key} = {_format_value(values.pop(key))}: write a finite number{hint}")
        score = values.get("score", STEERING_SCORES[0])
        if isinstance(score, str) and score not in STEERING_SCORES:
            why = f"{_why_not_steering(score)}; choose one of {', '.join(STEERING_SCORES)}"
            self._fault(("policy", "score"), f"score = {_format_value(score)}: {why}")
        try:
            return Limits.model_validate(values, strict=True)
        except ValidationError as error:
            for item in error.errors():
                key = str(item["loc"][0])
                remedy = f"{_describe_error(item)}: it is {SETTING_DESCRIPTIONS[key]}"
                self._fault(("policy", key), f"{key} = {_format_value(values[key])}: {remedy}")
            return None

    def check_shares_and_prices(self, weights: Mapping[str, float], limits: Limits) -> None:
        """Report a `min_share` that is too high for the variants, and a cost ceiling without prices."""
        drawn = sum(weight > 0 for weight in weights.values())
        priced = any("input_token_price" in variant for variant in self._orchestration["variants"])
        if limits.max_cost is not None and not priced:
            self._fault(
                ("policy", "max_cost"),
                f"max_cost = {limits.max_cost:g}: the cost of an answer is not known: "
                "set input_token_price and output_token_price of the variants",
            )
        if drawn * limits.min_share > 1:
            self._fault(
                ("policy", "min_share"),
                f"min_share = {limits.min_share:g}: {drawn} variants cannot each have {limits.min_share:.0%} "
                f"of the draws: the maximum is {math.floor(1_000 / drawn) / 1_000:g}",
            )


def _format_value(value: object) -> str:
    """Return a short text of a value, roughly as in TOML."""
    kinds: Mapping[type, str] = {dict: "a table", list: "an array"}
    if type(value) in kinds:
        return kinds[type(value)]
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


_BOUNDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than": lambda context: f"write more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"write {context['ge']:g} or more",
    "less_than_equal": lambda context: f"write {context['le']:g} or less",
    "float_type": lambda _: "write a number",
    "int_type": lambda _: "write a whole number",
    "string_type": lambda _: "write a string",
}


def _describe_error(item: Any) -> str:
    describe = _BOUNDS.get(item["type"])
    return str(item["msg"]) if describe is None else describe(item.get("ctx", {}))


def _why_not_steering(score: str) -> str:
    if score.startswith("latency_ms") or score in {"raw_ms", "raw_cost"}:
        return "times and costs do not steer: limit them with max_latency and max_cost"
    if score == "groundedness":
        return "the answer that was sent may be another variant's, so this score does not steer"
    if score in {"raw_fault", "empty", "degenerate", "truncated", "refused", "error"}:
        return "it counts failures, which quality includes: it is 0 for them"
    near = get_close_matches(score, STEERING_SCORES, 1)
    return f"there is no such score{f', did you mean {near[0]}?' if near else ''}"
