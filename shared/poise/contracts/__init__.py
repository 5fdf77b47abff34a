"""The wire format: one frozen model per body, the envelope, the table of headers and the table of topics."""

from poise.contracts.ask import Answer, Ask, Caching, Citation, Rung, Search
from poise.contracts.cancel import Cancel
from poise.contracts.custom_topics import TopicOptions
from poise.contracts.document import CopyNote, Deletion, Document, DocumentVersion, Manifest, PassageRecord
from poise.contracts.envelope import Envelope, EnvelopeError
from poise.contracts.epoch import Epoch
from poise.contracts.fault import Fault, FieldError
from poise.contracts.feedback import Feedback
from poise.contracts.fetch import Fetch, Fetched
from poise.contracts.generate import ChatMessage, Completion, Generate, Usage
from poise.contracts.message import Message, Request
from poise.contracts.policy import Decision, Finding, Limits, Policy, PolicyCommand, PolicySpec, PolicyState, Sample
from poise.contracts.record import Draw, Generation, RunRecord, Score, StepRecord
from poise.contracts.retrieve import Passage, Passages, Retrieve
from poise.contracts.stream import Delta, End, Reset, StreamPosition
from poise.contracts.topics import Deadlines

__all__ = [
    "Answer",
    "Ask",
    "Caching",
    "Cancel",
    "ChatMessage",
    "Citation",
    "Completion",
    "CopyNote",
    "Deadlines",
    "Decision",
    "Deletion",
    "Delta",
    "Document",
    "DocumentVersion",
    "Draw",
    "End",
    "Envelope",
    "EnvelopeError",
    "Epoch",
    "Fault",
    "Feedback",
    "Fetch",
    "Fetched",
    "FieldError",
    "Finding",
    "Generate",
    "Generation",
    "Limits",
    "Manifest",
    "Message",
    "Passage",
    "PassageRecord",
    "Passages",
    "Policy",
    "PolicyCommand",
    "PolicySpec",
    "PolicyState",
    "Request",
    "Reset",
    "Retrieve",
    "RunRecord",
    "Rung",
    "Sample",
    "Score",
    "Search",
    "StepRecord",
    "StreamPosition",
    "TopicOptions",
    "Usage",
]
