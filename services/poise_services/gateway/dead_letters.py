"""The admin endpoints for dead letters: list, show, redrive and purge, as `poise dlq` does."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, ClassVar, Final, TypeVar

from fastapi import Request, Response
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from poise.contracts import Message
from poise.contracts.field_types import INTEGRAL_FLOAT_AS_INT
from poise.dead_letters.admin import DeadLetterAdmin, redrivable
from poise.dead_letters.filter import DURATION_PATTERN, ID_PATTERN, DeadLetterFilter, invalid_field, parse_duration
from poise.dead_letters.json_view import DeadLetterDetail, DeadLetterSummary
from poise.dead_letters.model import DeadLetter, DeadLetterState
from poise.dead_letters.redrive_plan import RedriveOptions
from poise.errors import InvalidMessageError
from poise_services.gateway.body import read_json
from poise_services.gateway.problems import NotFoundError

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_PER_REQUEST: Final = 10_000
"""Maximum number of dead letters per request."""

logger = logging.getLogger(__name__)


def _age(text: str) -> str:
    parse_duration(text)
    return text


Age = Annotated[str, AfterValidator(_age), Field(json_schema_extra={"pattern": DURATION_PATTERN})]
"""`30s`, `10m`, `2h`, `7d`, `1d12h`."""
DeadLetterId = Annotated[str, Field(json_schema_extra={"pattern": ID_PATTERN})]
"""`tier/partition/offset`; `DeadLetterFilter` rejects other forms with the reason."""

CriteriaT = TypeVar("CriteriaT", bound="DeadLetterCriteria")


class DeadLetterCriteria(Message):
    """Selects the dead letters that match all given criteria."""

    kind: ClassVar[str] = "dead-letters-chosen/1"

    tier: str | None = None
    error: str | None = None
    """The type of the error."""
    tenant: str | None = None
    key: str | None = None
    older_than: Age | None = None
    newer_than: Age | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PER_REQUEST), INTEGRAL_FLOAT_AS_INT] = 1_000
    """Maximum number of dead letters, oldest first; the response has the number of the others in `more`."""

    def filter(self, ids: frozenset[str] = frozenset()) -> DeadLetterFilter:
        """Return the criteria as a filter of `poise.dead_letters`."""
        return DeadLetterFilter(
            tier=self.tier,
            error=self.error,
            tenant=self.tenant,
            key=None if self.key is None else self.key.encode(),
            older_than=None if self.older_than is None else parse_duration(self.older_than),
            newer_than=None if self.newer_than is None else parse_duration(self.newer_than),
            ids=ids,
        )


class ListQuery(DeadLetterCriteria):
    """The query parameters of the list."""

    kind: ClassVar[str] = "dead-letters-query/1"

    all: bool = False
    """Include dead letters that were redriven."""
    skip: Annotated[int, Field(ge=0)] = 0
    """The number of dead letters to skip, oldest first."""


_REQUIRE_ALL: Final[JsonDict] = {
    "if": {
        "properties": {
            **{name: {"type": "null"} for name in ("tier", "error", "tenant", "key", "older_than", "newer_than")},
            "ids": {"type": "array", "items": {}, "maxItems": 0},
        }
    },
    "then": {"properties": {"all": {"const": True}}, "required": ["all"]},
}
"""Without any criterion, `all` is required."""
_FORCE_REQUIRES_IDS: Final[JsonDict] = {
    "if": {"properties": {"force": {"const": True}}, "required": ["force"]},
    "then": {"properties": {"ids": {"type": "array", "items": {}, "minItems": 1}}, "required": ["ids"]},
    "else": _REQUIRE_ALL,
}
"""`force` requires `ids`."""


class DeadLetterSelection(DeadLetterCriteria):
    """Selects the dead letters that a request acts on. At least one criterion is required, or `all`."""

    model_config = ConfigDict(json_schema_extra=_REQUIRE_ALL)

    kind: ClassVar[str] = "dead-letters-selection/1"

    ids: tuple[DeadLetterId, ...] = ()
    """`tier/partition/offset`, as listed."""
    all: bool = False
    dry_run: bool = False
    """Change nothing; respond with what would be done."""

    def to_filter(self) -> DeadLetterFilter:
        """Return the selection as a filter of `poise.dead_letters`.

        Raises:
            InvalidMessageError: There is neither a criterion nor `all`.
        """
        filter_ = self.filter(frozenset(self.ids))
        if not filter_.has_criteria and not self.all:
            raise invalid_field("ids", "give ids, another criterion, or `all`")
        return filter_


class PurgeRequest(DeadLetterSelection):
    """Which dead letters to purge."""

    kind: ClassVar[str] = "dead-letters-act/1"


class RedriveRequest(DeadLetterSelection):
    """Which dead letters to redrive, and how."""

    model_config = ConfigDict(json_schema_extra=_FORCE_REQUIRES_IDS)

    kind: ClassVar[str] = "dead-letters-redrive/1"

    force: bool = False
    """Redrive quarantined dead letters too, if they are in `ids`."""
    keep_reply_to: bool = False
    keep_deadline: bool = False


class ListResponse(Message):
    """Dead letters, oldest first."""

    kind: ClassVar[str] = "dead-letters/1"

    dead_letters: tuple[DeadLetterSummary, ...]
    more: int
    """The number of further dead letters that match."""


class RedriveResult(Message):
    """The result for one dead letter."""

    kind: ClassVar[str] = "redriven/1"

    id: str
    sent: str | None = None
    """The position it was sent to, `topic/partition/offset`."""
    refused: str | None = None
    """Why it cannot be redriven."""


class RedriveResponse(Message):
    """The results of a redrive."""

    kind: ClassVar[str] = "dead-letters-redriven/1"

    outcomes: tuple[RedriveResult, ...]
    more: int
    """The number of dead letters left for another request."""
    dry_run: bool


class PurgeResponse(Message):
    """The dead letters that were purged, or would be: see `dry_run`."""

    kind: ClassVar[str] = "dead-letters-purged/1"

    purged: tuple[str, ...]
    more: int
    """The number of dead letters left for another request."""
    dry_run: bool


class DeadLetterEndpoints:
    """Handles one request at a time: reading takes memory, and concurrent writers would fence each other."""

    def __init__(self, admin: DeadLetterAdmin) -> None:
        self._admin = admin
        self._lock = asyncio.Lock()

    async def list(self, request: Request) -> Response:
        """Answer `GET /v1/admin/dead-letters`.

        Raises:
            InvalidMessageError: A parameter is invalid.
            UnavailableError: The dead letters cannot be read.
        """
        query = _validated(lambda: ListQuery.model_validate(dict(request.query_params), extra="forbid"))
        async with self._lock:
            dead_letters = await self._admin.select(query.filter())
        matching = [entry for entry in dead_letters if query.all or entry.state is not DeadLetterState.REDRIVEN]
        shown = matching[query.skip : query.skip + query.limit]
        return _json_response(
            ListResponse(dead_letters=tuple(map(DeadLetterSummary.of, shown)), more=len(matching) - len(shown))
        )

    async def show(self, request: Request) -> Response:
        """Answer `GET /v1/admin/dead-letters/{tier}/{partition}/{offset}`.

        Raises:
            NotFoundError: There is no such dead letter.
            UnavailableError: The dead letters cannot be read.
        """
        id_ = "/".join(request.path_params[name] for name in ("tier", "partition", "offset"))
        try:
            async with self._lock:
                [entry] = await self._admin.select(DeadLetterFilter(ids=frozenset({id_})))
                entry = await self._admin.load_message(entry)
        except InvalidMessageError as error:
            raise NotFoundError(f"there is no dead letter {id_[:200]}") from error
        return Response(DeadLetterDetail.of(entry).model_dump_json(exclude_unset=True), media_type="application/json")

    async def redrive(self, request: Request) -> Response:
        """Answer `POST /v1/admin/dead-letters/redrive`.

        Raises:
            InvalidMessageError: The body is invalid, or an id is unknown.
            RetryableError: Another client is redriving or purging. Dead letters redriven so far are not sent twice.
            UnavailableError: The broker does not respond.
        """
        body = await _parse_body(request, RedriveRequest)
        options = RedriveOptions(
            keep_reply_to=body.keep_reply_to, keep_deadline=body.keep_deadline, force=body.force, dry_run=body.dry_run
        )
        filter_ = body.to_filter()
        options.check(filter_)
        started = time.monotonic()
        outcomes: list[RedriveResult] = []
        async with self._lock:
            selected = await self._admin.select(filter_)
            batch, more = _first(selected if body.ids else redrivable(selected), body.limit)
            if batch is not None:
                async with aclosing(self._admin.redrive(batch, options)) as results:
                    async for outcome in results:
                        sent = None if outcome.sent is None else str(outcome.sent)
                        outcomes.append(RedriveResult(id=outcome.entry.id, sent=sent, refused=outcome.refused))
        if not body.dry_run:
            number = sum(outcome.sent is not None for outcome in outcomes)
            logger.info("%d dead letters redriven in %.1f s", number, time.monotonic() - started)
        return _json_response(RedriveResponse(outcomes=tuple(outcomes), more=more, dry_run=body.dry_run))

    async def purge(self, request: Request) -> Response:
        """Answer `POST /v1/admin/dead-letters/purge`.

        Raises:
            InvalidMessageError: The body is invalid, or an id is unknown.
            RetryableError: Another client is redriving or purging. Dead letters purged so far stay purged.
            UnavailableError: The broker does not respond.
        """
        body = await _parse_body(request, PurgeRequest)
        filter_ = body.to_filter()
        async with self._lock:
            selected = await self._admin.select(filter_)
            batch, more = _first(selected, body.limit)
            if batch is not None and not body.dry_run:
                selected = await self._admin.purge(batch)
                logger.info("%d dead letters purged", len(selected))
        ids = tuple(entry.id for entry in selected[: body.limit])
        return _json_response(PurgeResponse(purged=ids, more=more, dry_run=body.dry_run))


def _first(dead_letters: list[DeadLetter], limit: int) -> tuple[DeadLetterFilter | None, int]:
    """Return a filter for the first `limit` dead letters (None if there are none), and the number of the others."""
    ids = frozenset(entry.id for entry in dead_letters[:limit])
    return (DeadLetterFilter(ids=ids) if ids else None), max(0, len(dead_letters) - limit)


async def _parse_body(request: Request, model: type[CriteriaT]) -> CriteriaT:
    raw = await read_json(request, limit=MAX_BODY_BYTES)
    return _validated(lambda: model.parse(raw, strict=True))


def _validated(read: Callable[[], CriteriaT]) -> CriteriaT:
    try:
        return read()
    except ValidationError as error:
        raise InvalidMessageError.of(error) from error


def _json_response(message: Message) -> Response:
    return Response(message.encode(), media_type="application/json")
