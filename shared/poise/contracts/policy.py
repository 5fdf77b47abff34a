"""Policies: the active policy over variants, commands of people, and decisions with their evidence."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from poise.contracts.ask import NAME_PATTERN
from poise.contracts.bounds import MAX_QUANTITY, Finite, Int64, Share, UnixSeconds
from poise.contracts.message import Message, is_strict

Action = Literal["set", "shift", "roll back", "promote", "hold", "release", "revert", "refuse"]
"""What a decision does.

Of the loop, on a variant: `shift` decreases its share; `roll back` decreases it to the minimum share; `promote`
restores it by a step toward what a person set; `hold` states that it stays, because no other variant can take it, it
is the minimum already, or a person holds the policy.

Of a person: `set`, `hold` (leave the weights as they are), `release`, `revert`; `refuse` if it cannot be executed.
"""
DECREASES: Final[frozenset[Action]] = frozenset({"shift", "roll back"})
"""The actions that take weight from a variant."""
Criterion = Literal["others", "past", "range", "latency", "cost"]
"""What a variant is worse than: the other variants at the same time, its own past, the minimum quality that a person
set, or the ceiling of latency or of cost."""


class Limits(Message):
    """Limits of automatic decisions, set by a person."""

    kind: ClassVar[str] = "limits/1"
    renamed: ClassVar[Mapping[str, str]] = {
        "explore": "min_share",
        "pause": "cooldown_answers",
        "quiet_answers": "mean_answers_between_false_alarms",
        "low": "min_score",
        "latency": "max_latency",
        "cost": "max_cost",
    }
    """Old name to new name. Stored records still have the old names."""

    min_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """The minimum share of the draws of a variant, so that its recovery can be detected."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The maximum change of a variant's share in one decision."""
    cooldown_answers: Annotated[Int64, Field(ge=1)] = 20
    """Scored answers between two steps of a decrease or restore."""
    mean_answers_between_false_alarms: Annotated[Int64, Field(ge=100)] = 50_000
    """The average number of scored answers between two false alarms, over all detectors and their restarts."""
    margin: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """How much worse than the others a recovered variant may be on average."""
    score: str = "quality"
    """The score that decisions are based on: 0 to 1, more is better."""
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """The minimum acceptable mean of that score; None = none."""
    max_latency: Annotated[float, Field(gt=0, le=MAX_QUANTITY)] | None = None
    """The maximum seconds of 95 % of a variant's answers; None = no limit."""
    max_cost: Annotated[float, Field(gt=0, le=MAX_QUANTITY)] | None = None
    """The maximum cost of 95 % of a variant's answers, in the currency of their prices; None = no limit."""

    @model_validator(mode="before")
    @classmethod
    def _under_the_new_names(cls, data: Any, info: ValidationInfo) -> Any:
        """Read the old names of stored records; refuse them where the body is validated strictly."""
        if not isinstance(data, Mapping) or not (old := cls.renamed.keys() & data.keys()):
            return data
        if is_strict(info):
            raise ValueError("; ".join(f"{name} was renamed: set {cls.renamed[name]}" for name in sorted(old)))
        return {cls.renamed[name]: data[name] for name in old} | {
            name: value for name, value in data.items() if name not in old
        }


class PolicySpec(Message):
    """The specification of a policy by a person, from `poise policy set FILE`."""

    kind: ClassVar[str] = "policy-spec/1"

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    weights: Annotated[dict[str, Share], Field(min_length=1)]
    """The weight of each variant, relative to the sum. A variant of weight 0 is never drawn."""
    limits: Limits = Limits()
    dry_run: bool = False
    """Whether automatic decisions are only recorded and not executed."""


class Policy(Message):
    """The active policy, which every orchestration worker uses: `poise.policy`, key = its name."""

    kind: ClassVar[str] = "policy/1"

    name: str
    version: Annotated[Int64, Field(ge=1)]
    """Incremented with each change of the weights or of the specification."""
    weights: dict[str, Share]
    """The shares: the probability of each variant to be drawn. They sum to 1, unlike the weights of a `PolicySpec`."""
    spec: PolicySpec
    """The last specification by a person; weights are restored to those in it."""
    held: bool = False
    """Whether a person has ordered to hold the weights."""
    decision: str
    """The id of the decision that made it active."""
    at: UnixSeconds
    """When, unix seconds."""
    by: str
    """The author: `loop`, or a person's name."""


class PolicyCommand(Message):
    """A person's command: `poise.policy.commands`, key = the policy's name."""

    kind: ClassVar[str] = "policy-command/1"

    id: Annotated[str, Field(min_length=1, max_length=80)]
    """Chosen by the client, to find the decision. A command with the same id is executed once."""
    action: Literal["set", "hold", "release", "revert"]
    spec: PolicySpec | None = None
    """For `set`."""
    version: Annotated[Int64, Field(ge=1)] | None = None
    """For `revert`: the version whose weights, limits and dry run to restore; None = the one before the weights last
    changed."""
    by: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(max_length=1_000)] | None = None


class Sample(Message):
    """Statistics of some answers of one variant."""

    kind: ClassVar[str] = "sample/1"

    count: Int64
    mean: Finite
    low: Finite
    """The lower end of the 95 % confidence interval of the mean."""
    high: Finite


class Finding(Message):
    """A detector's finding, with its evidence."""

    kind: ClassVar[str] = "finding/1"

    variant: str
    about: Criterion
    method: str
    """The name of the method in the literature."""
    statistic: Finite
    threshold: Finite
    """The threshold that the statistic reached."""
    samples: dict[str, Sample]
    """The evidence by variant: samples of the policy's score, or of the share above a ceiling."""
    runs: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    """The runs with the most weight in the evidence."""
    since: UnixSeconds
    """When the first answer of the evidence was finished, unix seconds."""


class Decision(Message):
    """A decision: `poise.decisions`, key = the policy's name. Retained forever."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)
    kind: ClassVar[str] = "decision/1"

    id: str
    """`<policy>-<number>`, from 1."""
    policy: str
    action: Action
    variant: str | None = None
    """The variant that the decision is about."""
    acted: bool
    """Whether weights or limits changed; otherwise, the reason states why not."""
    reason: str
    """One line, for people."""
    before: dict[str, Share]
    after: dict[str, Share]
    """The weights after the decision; if `acted` is false, those that it would have set."""
    version: Int64
    """The version of the policy after the decision."""
    finding: Finding | None = None
    """The evidence of an automatic decision."""
    by: str
    command: str | None = None
    """The id of the command that it executes."""
    at: UnixSeconds
    """The time of the answer or command that caused the decision, unix seconds."""
    next_score_offset: Annotated[Int64, Field(alias="scores")]
    """The next offset of `poise.scores` at the decision: all scores before it were counted, and none after it."""


class PolicyState(Message):
    """A snapshot from which the next deciding worker continues: `poise.policy.state`, key = the policy's name."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)
    kind: ClassVar[str] = "policy-state/1"

    name: str
    next_score_offset: Annotated[Int64, Field(alias="scores")]
    """The next offset of its partition of `poise.scores`."""
    next_command_offset: Annotated[Int64, Field(alias="commands")]
    """The next offset of its partition of `poise.policy.commands`."""
    scores_id: Annotated[str, Field(max_length=80)] | None = None
    """Kafka's id of the topic `poise.scores` of that offset; absent = unknown."""
    commands_id: Annotated[str, Field(max_length=80)] | None = None
    """Kafka's id of the topic `poise.policy.commands` of that offset; absent = unknown."""
    decider: dict[str, object]
    """The state of the decider, in its own format."""
