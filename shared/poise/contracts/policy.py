"""Policies: what is in force over variants, what people ask of it, and each decision with its evidence."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from poise.contracts.ask import NAME
from poise.contracts.bounds import MAX_QUANTITY, Finite, Int64, Share, UnixSeconds
from poise.contracts.message import Message

Action = Literal["set", "shift", "roll back", "promote", "hold", "release", "revert", "refuse"]
"""`shift`: a step away from a variant that is in trouble; `roll back`: the step that leaves it only exploration;
`promote`: a step back to the weight that a person set; `hold`: weights stay, because a person said so or because there
is nowhere to go; `set`, `release`, `revert`: a person's; `refuse`: a person's that cannot be done."""
DECREASES: Final[frozenset[Action]] = frozenset({"shift", "roll back"})
"""The actions that take weight from a variant."""
Criterion = Literal["others", "past", "range", "latency", "cost"]
"""What a variant was found to be worse than: the other variants at the same time; its own past; the least quality that
a person set; the ceiling of latency; that of cost."""


class Limits(Message):
    """What a person lets the loop do, and what it is to keep."""

    kind: ClassVar[str] = "limits/1"

    explore: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """The least share of the draws that a variant keeps, so that it can be seen to have recovered."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The largest change of one variant's share in one decision."""
    pause: Annotated[Int64, Field(ge=1)] = 20
    """Scored answers between two steps of one move."""
    quiet_answers: Annotated[Int64, Field(ge=100)] = 50_000
    """Scored answers between two false alarms, on average, over all detectors and their restarts."""
    margin: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """How much worse than the others a variant may be on average, and count as recovered."""
    score: str = "quality"
    """The score that steers: 0 to 1, more is better."""
    low: Annotated[float, Field(ge=0, le=1)] | None = None
    """The range: the least mean of that score which is acceptable; None = none."""
    latency: Annotated[float, Field(gt=0, le=MAX_QUANTITY)] | None = None
    """Seconds within which a variant writes 95 % of its answers; None = it may take as long as it likes."""
    cost: Annotated[float, Field(gt=0, le=MAX_QUANTITY)] | None = None
    """What 95 % of its answers cost at most, in the currency of the variants' prices; None = whatever."""


class PolicySpec(Message):
    """What a person sets: from `poise policy set FILE`."""

    kind: ClassVar[str] = "policy-spec/1"

    name: Annotated[str, Field(pattern=NAME)]
    weights: Annotated[dict[str, Share], Field(min_length=1)]
    """By variant, its share among all. One of weight 0 is never drawn."""
    limits: Limits = Limits()
    dry_run: bool = False
    """The loop decides and does not act."""


class Policy(Message):
    """The policy in force, as every orchestration worker follows it: `poise.policy`, key = its name."""

    kind: ClassVar[str] = "policy/1"

    name: str
    version: Annotated[Int64, Field(ge=1)]
    """One more with each change of weights or of what a person set."""
    weights: dict[str, Share]
    """By variant, the probability of being drawn; they sum to 1."""
    spec: PolicySpec
    """What the person set last; the weights return to those in it."""
    held: bool = False
    """A person has said that the weights stay as they are."""
    decision: str
    """The decision that put it in force."""
    at: UnixSeconds
    """When, unix seconds."""
    by: str
    """Who: `loop`, or a person's name."""


class PolicyCommand(Message):
    """What a person asks: `poise.policy.commands`, key = the policy's name."""

    kind: ClassVar[str] = "policy-command/1"

    id: Annotated[str, Field(min_length=1, max_length=80)]
    """Chosen by the asker, who finds the decision by it; done once, however often it comes."""
    action: Literal["set", "hold", "release", "revert"]
    spec: PolicySpec | None = None
    """For `set`."""
    version: Annotated[Int64, Field(ge=1)] | None = None
    """For `revert`: the version whose weights come back; None = the one before the last change."""
    by: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(max_length=1_000)] | None = None


class Sample(Message):
    """Some answers of one variant, summed up."""

    kind: ClassVar[str] = "sample/1"

    count: Int64
    mean: Finite
    low: Finite
    """Lower end of the 95 % confidence interval of the mean."""
    high: Finite


class Finding(Message):
    """What a detector found, and by what."""

    kind: ClassVar[str] = "finding/1"

    variant: str
    about: Criterion
    method: str
    """The method's name in the literature."""
    statistic: Finite
    threshold: Finite
    """It was found because the statistic reached this."""
    samples: dict[str, Sample]
    """By variant, what it was found from: of the score that steers, or of the share above a ceiling."""
    runs: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    """The runs that weighed most."""
    since: UnixSeconds
    """When the first of the answers that it was found from was finished, unix seconds."""


class Decision(Message):
    """One decision: `poise.decisions`, key = the policy's name. Kept."""

    kind: ClassVar[str] = "decision/1"

    id: str
    """`<policy>-<number>`, from 1."""
    policy: str
    action: Action
    variant: str | None = None
    """The one that it is about."""
    acted: bool
    """Whether weights or limits changed; else why not stands in the reason."""
    reason: str
    """In one line, for people."""
    before: dict[str, Share]
    after: dict[str, Share]
    """The weights; with `acted` false, those that it would have set."""
    version: Int64
    """Of the policy after it."""
    finding: Finding | None = None
    """The evidence, where the loop decided."""
    by: str
    command: str | None = None
    """The id of the command that asked for it."""
    at: UnixSeconds
    """Of the answer, or of the command, that it was decided at, unix seconds."""
    scores: Int64
    """The next offset of `poise.scores` when it was decided: all before it was counted, nothing after it was."""


class PolicyState(Message):
    """Where whoever decides next goes on: `poise.policy.state`, key = the policy's name."""

    kind: ClassVar[str] = "policy-state/1"

    name: str
    scores: Int64
    """The next offset of its partition of `poise.scores`."""
    commands: Int64
    """The next offset of its partition of `poise.policy.commands`."""
    scores_id: Annotated[str, Field(max_length=80)] | None = None
    """Kafka's id of the `poise.scores` that the offset is of; absent = not known."""
    commands_id: Annotated[str, Field(max_length=80)] | None = None
    """Kafka's id of the `poise.policy.commands` that the offset is of; absent = not known."""
    decider: dict[str, object]
    """What the decider remembers, as it writes it itself."""
