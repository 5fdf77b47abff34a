"""The wire format, byte by byte, on which other languages and older workers rely.

A change needs a new version of the kind.
"""

import json

import pytest
from pydantic import ValidationError

from poise.contracts import (
    Answer,
    Ask,
    Cancel,
    ChatMessage,
    Citation,
    Completion,
    CopyNote,
    Decision,
    Delta,
    Document,
    DocumentVersion,
    End,
    Envelope,
    Fault,
    Feedback,
    Fetch,
    Fetched,
    FieldError,
    Finding,
    Generate,
    Limits,
    Manifest,
    Message,
    Passage,
    PassageRecord,
    Passages,
    Policy,
    PolicyCommand,
    PolicySpec,
    PolicyState,
    Reset,
    Retrieve,
    Sample,
    Score,
    Usage,
)
from poise.contracts.topics import CATALOGUE
from poise.kafka.partitioner import partition_for
from poise.policy.decider import Decider

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

GOLDEN: list[tuple[str, Message, str]] = [
    ("ask/1", Ask(question="What does pass do?"), '{"question":"What does pass do?"}'),
    (
        "answer/1",
        Answer(
            run_id="r",
            text="Nothing.",
            citations=(Citation(source="The pass statement", passage="python/pass#0", quote="nothing happens"),),
            rung="extractive",
            reason="not grounded",
            epoch="e",
            retrieval="lexical",
            degraded=("no embedder",),
            timings={"retrieve": 4.5, "total": 9.0},
        ),
        (
            '{"run_id":"r","text":"Nothing.","citations":[{"source":"The pass statement","passage":"python/pass#0",'
            '"quote":"nothing happens"}],"rung":"extractive","reason":"not grounded","epoch":"e",'
            '"retrieval":"lexical","degraded":["no embedder"],"cached":false,"timings":{"retrieve":4.5,"total":9.0}}'
        ),
    ),
    (
        "fault/1",
        Fault(
            type="urn:poise:invalid",
            title="Invalid message",
            status=400,
            detail="question: must be a string",
            retryable=False,
            errors=(FieldError(field="question", detail="must be a string"),),
        ),
        (
            '{"type":"urn:poise:invalid","title":"Invalid message","status":400,"detail":"question: must be a string",'
            '"retryable":false,"errors":[{"field":"question","detail":"must be a string"}]}'
        ),
    ),
    (
        "cancel/1",
        Cancel(run="r", step="generate", tenant="default", deadline=1500),
        '{"run":"r","step":"generate","tenant":"default","deadline":1500}',
    ),
    ("retrieve/1", Retrieve(query="pass"), '{"query":"pass","limit":6}'),
    (
        "passages/1",
        Passages(passages=(Passage(id="d#0", source="s", text="t", score=0.5, age=1.0),), epoch="e"),
        '{"passages":[{"id":"d#0","source":"s","text":"t","score":0.5,"age":1.0}],"epoch":"e","mode":"hybrid"}',
    ),
    (
        "generate/1",
        Generate(messages=(ChatMessage(role="user", content="hi"),)),
        '{"messages":[{"role":"user","content":"hi"}],"backend":"default","max_tokens":128,"temperature":0.0,"stop":[]}',
    ),
    (
        "completion/1",
        Completion(text="hi", model="m", backend="default", finish_reason="stop", usage=Usage(prompt_tokens=1)),
        (
            '{"text":"hi","model":"m","backend":"default","finish_reason":"stop",'
            '"usage":{"prompt_tokens":1,"completion_tokens":0}}'
        ),
    ),
    (
        "fetch/1",
        Fetch(integration="weather", parameters={"question": "Rain?"}),
        '{"integration":"weather","parameters":{"question":"Rain?"}}',
    ),
    (
        "fetched/1",
        Fetched(integration="weather", text="Rain.", source="Weather", age=60.0, reason="answered 503"),
        '{"integration":"weather","text":"Rain.","source":"Weather","age":60.0,"reason":"answered 503"}',
    ),
    ("delta/1", Delta(text="Noth"), '{"text":"Noth"}'),
    (
        "reset/1",
        Reset(reason="not grounded", rung="extractive"),
        '{"reason":"not grounded","rung":"extractive"}',
    ),
    ("end/1", End(), "{}"),
    ("document/1", Document(text="t", source="s"), '{"text":"t","source":"s","format":"text"}'),
    (
        "part/1",
        PassageRecord(document="d", part=0, source="s", text="t", vector="AACAPw==", model="m", published=1.5),
        '{"document":"d","part":0,"source":"s","text":"t","vector":"AACAPw==","model":"m","published":1.5}',
    ),
    ("manifest/1", Manifest(document="d", parts=1, published=1.5), '{"document":"d","parts":1,"published":1.5}'),
    (
        "moved/1",
        CopyNote(document="d", partition=1, version=9, published=1.5),
        '{"document":"d","partition":1,"version":9,"published":1.5}',
    ),
    (
        "document-version/1",
        DocumentVersion(documents="AAAA", digest="9f86d081"),
        '{"documents":"AAAA","digest":"9f86d081"}',
    ),
    (
        "score/1",
        Score(
            run_id="r",
            workflow="answer",
            tenant="default",
            policy="answer",
            policy_version=1,
            variant="small",
            probability=1.0,
            rung="primary",
            at=1.5,
            values={"groundedness": 0.75},
        ),
        (
            '{"run_id":"r","workflow":"answer","tenant":"default","policy":"answer","policy_version":1,"variant":"small",'
            '"probability":1.0,"rung":"primary","at":1.5,"values":{"groundedness":0.75}}'
        ),
    ),
    (
        "feedback/1",
        Feedback(run_id="019aa7e4-2f10-7c3e-9d6b-5a1f0c7e2b44", id="f", thumb="down", correction="It does nothing."),
        '{"run_id":"019aa7e4-2f10-7c3e-9d6b-5a1f0c7e2b44","id":"f","thumb":"down","correction":"It does nothing."}',
    ),
    (
        "policy/1",
        Policy(
            name="answer",
            version=2,
            weights={"steady": 0.95, "cheap": 0.05},
            spec=PolicySpec(name="answer", weights={"steady": 0.5, "cheap": 0.5}, limits=Limits(min_score=0.6)),
            decision="answer-2",
            at=1.5,
            by="loop",
        ),
        (
            '{"name":"answer","version":2,"weights":{"steady":0.95,"cheap":0.05},"spec":{"name":"answer","weights":'
            '{"steady":0.5,"cheap":0.5},"limits":{"min_share":0.05,"step":0.5,"cooldown_answers":20,'
            '"mean_answers_between_false_alarms":50000,"margin":0.05,"score":"quality","min_score":0.6},'
            '"dry_run":false},"held":false,"decision":"answer-2","at":1.5,"by":"loop"}'
        ),
    ),
    (
        "policy-command/1",
        PolicyCommand(id="c", action="hold", by="ada", reason="holidays"),
        '{"id":"c","action":"hold","by":"ada","reason":"holidays"}',
    ),
    (
        "decision/1",
        Decision(
            id="answer-2",
            policy="answer",
            action="roll back",
            variant="cheap",
            acted=True,
            reason="cheap answers worse",
            before={"steady": 0.5, "cheap": 0.5},
            after={"steady": 0.95, "cheap": 0.05},
            version=2,
            finding=Finding(
                variant="cheap",
                about="others",
                method="e-detector",
                statistic=61_200.0,
                threshold=50_000.0,
                samples={"cheap": Sample(count=64, mean=0.41, low=0.33, high=0.49)},
                runs=("r",),
                since=1.0,
            ),
            by="loop",
            at=1.5,
            next_score_offset=640,
        ),
        (
            '{"id":"answer-2","policy":"answer","action":"roll back","variant":"cheap","acted":true,'
            '"reason":"cheap answers worse","before":{"steady":0.5,"cheap":0.5},"after":{"steady":0.95,"cheap":0.05},'
            '"version":2,"finding":{"variant":"cheap","about":"others","method":"e-detector","statistic":61200.0,'
            '"threshold":50000.0,"samples":{"cheap":{"count":64,"mean":0.41,"low":0.33,"high":0.49}},"runs":["r"],'
            '"since":1.0},"by":"loop","at":1.5,"scores":640}'
        ),
    ),
]


@pytest.mark.parametrize(("kind", "body", "text"), GOLDEN, ids=[kind for kind, _, _ in GOLDEN])
def test_body_encodes_to_its_golden_bytes(kind: str, body: Message, text: str) -> None:
    assert body.kind == kind
    assert body.encode() == text.encode()
    assert type(body).parse(text) == body


@pytest.mark.parametrize(("kind", "body", "text"), GOLDEN, ids=[kind for kind, _, _ in GOLDEN])
def test_unknown_field_is_ignored_between_tiers_and_rejected_from_clients(kind: str, body: Message, text: str) -> None:
    newer = (text[:-1] + ',"not_known_yet":{"a":[1]}}').replace("{,", "{")
    assert type(body).parse(newer) == body, kind
    with pytest.raises(ValidationError, match="not_known_yet"):
        type(body).parse(newer, strict=True)


OLD_LIMITS = (
    '{"explore":0.1,"step":0.25,"pause":7,"quiet_answers":1000,"margin":0.04,"score":"raw_relevance","low":0.6,'
    '"latency":4.0,"cost":0.002}'
)
LIMITS = Limits(
    min_share=0.1,
    step=0.25,
    cooldown_answers=7,
    mean_answers_between_false_alarms=1_000,
    margin=0.04,
    score="raw_relevance",
    min_score=0.6,
    max_latency=4.0,
    max_cost=0.002,
)
OLD_SPEC = f'{{"name":"answer","weights":{{"steady":1.0,"cheap":1.0}},"limits":{OLD_LIMITS},"dry_run":false}}'
OLD_POLICY = (
    f'{{"name":"answer","version":1,"weights":{{"steady":0.5,"cheap":0.5}},"spec":{OLD_SPEC},"held":false,'
    '"decision":"answer-1","at":1.5,"by":"ada"}'
)
OLD_COMMAND = f'{{"id":"c","action":"set","spec":{OLD_SPEC},"by":"ada"}}'
OLD_STATE = (
    f'{{"name":"answer","scores":9,"commands":2,"decider":{{"format":1,"name":"answer","scores":9,"history":[{OLD_POLICY}],'
    '"number":1,"counted":4,"seen":"","commands":["c"],"troubles":[],"detectors":{"format":0}}}'
)


def test_stored_policies_with_old_limit_names_are_parsed() -> None:
    assert Policy.parse(OLD_POLICY).spec.limits == LIMITS
    command = PolicyCommand.parse(OLD_COMMAND)
    assert command.spec is not None
    assert command.spec.limits == LIMITS
    restored = Decider.restore(PolicyState.parse(OLD_STATE).decider)
    assert restored.policy == Policy.parse(OLD_POLICY)
    assert "explore" not in str(restored.snapshot())


@pytest.mark.parametrize(("old", "new"), Limits.renamed.items())
def test_old_limit_name_is_rejected_from_clients(old: str, new: str) -> None:
    with pytest.raises(ValidationError, match=f"{old} was renamed: set {new}"):
        PolicyCommand.parse(OLD_COMMAND.replace(OLD_LIMITS, json.dumps({old: 1})), strict=True)


def test_headers_encode_to_their_golden_bytes() -> None:
    envelope = Envelope(
        correlation_id=b"c\xff\x00",
        reply_to="poise.replies",
        content_type="application/json",
        reply_partition=3,
        deadline=1_800_000_000_000,
        attempt=2,
        run="r",
        step="s",
        tenant="t",
        region="eu",
        kind="ask/1",
        min_epoch="e",
        origin="poise.ask.interactive/0/7",
        redrives=1,
        doc_version=9,
        stream_to=b"poise.replies/3/c\xff\x00",
        stream="f",
        seq=4,
        trace={"traceparent": TRACEPARENT, "tracestate": "v=1", "baggage": "k=v"},
    )
    headers = [
        ("correlation_id", b"c\xff\x00"),
        ("reply_to", b"poise.replies"),
        ("content-type", b"application/json"),
        ("poise-reply-partition", b"3"),
        ("poise-deadline", b"1800000000000"),
        ("poise-attempt", b"2"),
        ("poise-run", b"r"),
        ("poise-step", b"s"),
        ("poise-tenant", b"t"),
        ("poise-region", b"eu"),
        ("poise-kind", b"ask/1"),
        ("poise-min-epoch", b"e"),
        ("poise-origin", b"poise.ask.interactive/0/7"),
        ("poise-redrives", b"1"),
        ("poise-doc-version", b"9"),
        ("poise-stream-to", b"poise.replies/3/c\xff\x00"),
        ("poise-stream", b"f"),
        ("poise-seq", b"4"),
        ("traceparent", TRACEPARENT.encode()),
        ("tracestate", b"v=1"),
        ("baggage", b"k=v"),
    ]
    assert envelope.headers() == headers
    assert Envelope.read([*headers, ("somebody-elses", b"\xff")]) == envelope


@pytest.mark.parametrize(
    ("key", "partition"), [(b"21", 0), (b"foobar", 0), (b"a-little-bit-long-string", 2), (b"python/pass", 1)]
)
def test_keys_have_the_partitions_of_the_java_client(key: bytes, partition: int) -> None:
    """Check keys whose murmur2 values, except the last, are those of Kafka's own UtilsTest."""
    assert partition_for(key, 6) == partition


def test_catalog_has_the_golden_topics() -> None:
    assert {topic.name: (topic.partitions, topic.key, topic.compacted) for topic in CATALOGUE.values()} == {
        "poise.ask.interactive": (6, "conversation, else none", False),
        "poise.ask.batch": (6, "conversation, else none", False),
        "poise.runs.interactive": (6, "conversation, else run", False),
        "poise.runs.batch": (6, "conversation, else run", False),
        "poise.retrieval.requests.interactive": (6, "run/step", False),
        "poise.retrieval.requests.batch": (6, "run/step", False),
        "poise.inference.requests.interactive": (6, "run/step", False),
        "poise.inference.requests.batch": (6, "run/step", False),
        "poise.integration.requests.interactive": (6, "run/step", False),
        "poise.integration.requests.batch": (6, "run/step", False),
        "poise.replies": (12, "explicit partition", False),
        "poise.documents": (6, "document id", True),
        "poise.passages": (6, "<document id>#<part>", True),
        "poise.versions": (6, "document id", True),
        "poise.records": (6, "run", False),
        "poise.scores": (6, "policy", False),
        "poise.feedback": (6, "run", False),
        "poise.policy": (6, "policy", True),
        "poise.policy.state": (6, "policy", True),
        "poise.decisions": (6, "policy", False),
        "poise.policy.commands": (6, "policy", False),
        "poise.cancel": (1, "run", False),
        "poise.spans": (6, "run", False),
    } | {
        f"poise.{tier}.{topic}": (partitions, "as the original", False)
        for tier in ("orchestration", "retrieval", "inference", "integration", "evaluation")
        for topic, partitions in {"dead": 1, "retry.10s": 3, "retry.1m": 3, "retry.10m": 3}.items()
    }
