"""The hybrid search index: dense vectors and BM25, fused by reciprocal rank. Qdrant Edge, in this process.

Dense search is exact: 3 ms for 20,000 passages. The HNSW graph is not built, because building it blocks the process
(24 s for as many). Far beyond that size, use a Qdrant server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

import qdrant_edge as qdrant

from poise.contracts import PassageRecord
from poise_services.retrieval.passages import PassageContent, decode_vector, passage_record_key
from poise_services.retrieval.sparse import SparseEncoder
from poise_services.retrieval.version_assembler import AssembledVersion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS: Final = 384
_DENSE: Final = "meaning"
"""The stored name of the dense vectors."""
_SPARSE: Final = "words"
"""The stored name of the sparse vectors."""
_RRF_K: Final = 60
"""The constant k of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""
_OVERFETCH: Final = 3
"""Hits fetched per requested hit, because hits with the same text are dropped."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A passage that a search found."""

    document: str
    passage_number: int
    source: str
    heading: str | None
    text: str
    document_written_at: float
    version: int | None
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class StoredPassage:
    """A passage in the index."""

    content: PassageContent
    source: str
    vector: "NDArray[np.float32] | None"
    """None if it is of another model."""


class Index:
    """Passages in a folder. Writes come from one thread; searches may come from others.

    Args:
        path: An existing folder, empty or with an index.
        model: The embedding model; passages of another model are found by sparse search only.

    Raises:
        BaseException: The folder is damaged; Qdrant raises bare exceptions, and panics are BaseExceptions.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._model = model
        self._sparse_encoder = SparseEncoder()
        self._lock = Lock()
        if any(path.iterdir()):
            self._shard = qdrant.EdgeShard.load(str(path))
        else:
            self._shard = qdrant.EdgeShard.create(str(path), _configuration())
            self._shard.update(qdrant.UpdateOperation.create_field_index("document", qdrant.PayloadSchemaType.Keyword))

    def __len__(self) -> int:
        """Return the number of passages."""
        return self._shard.info().points_count

    def replace_document(self, version: AssembledVersion) -> None:
        """Replace a document with this version, atomically for searches."""
        points = [self._point(passage, version.version_number) for passage in version.passages]
        surplus = qdrant.Filter(
            must=[
                qdrant.FieldCondition(key="document", match=qdrant.MatchValue(version.document)),
                qdrant.FieldCondition(key="part", range=qdrant.RangeFloat(gte=float(len(points)))),
            ]
        )
        with self._lock:
            if points:
                self._shard.update(qdrant.UpdateOperation.upsert_points(points))
            self._shard.update(qdrant.UpdateOperation.delete_points_by_filter(surplus))

    def search(
        self, text: str, vector: "NDArray[np.float32] | None", *, limit: int, candidates: int
    ) -> list[SearchHit]:
        """Return the most relevant passages, best first, without duplicate texts.

        Args:
            text: The query.
            vector: Its embedding, shape (384,), of unit length; None = sparse search only.
            limit: Maximum number of passages.
            candidates: Number of candidates of each of the two searches.
        """
        fetched = limit * _OVERFETCH
        queries: dict[str, Any] = {_SPARSE: self._sparse_encoder.encode_query(text)}
        if vector is not None:
            queries[_DENSE] = vector.tolist()
        searches = [
            qdrant.Prefetch(limit=max(candidates, fetched), query=qdrant.Query.Nearest(query, using=using))
            for using, query in queries.items()
        ]
        request = qdrant.QueryRequest(
            limit=fetched,
            query=qdrant.Fusion.Rrf(k=_RRF_K),  # type: ignore[arg-type]  # the stubs do not say that it is a Fusion
            prefetches=searches,
            with_payload=True,
        )
        with self._lock:
            points = self._shard.query(request)
        return list(_distinct_texts(_to_hit(point) for point in points))[:limit]

    def get_passages(self, document: str, count: int) -> list[StoredPassage]:
        """Return the passages of a document, in order.

        Args:
            document: Its id.
            count: Its number of passages.
        """
        import numpy as np  # noqa: PLC0415 - heavy, see embedding

        ids: list[Any] = [_point_id(document, number) for number in range(count)]
        stored: dict[int, StoredPassage] = {}
        for record in self._shard.retrieve(ids, with_payload=True, with_vector=[_DENSE]):
            payload: Any = record.payload
            vectors: Any = record.vector
            vector = np.array(vectors[_DENSE], dtype=np.float32) if payload["model"] == self._model else None
            stored[payload["part"]] = StoredPassage(
                PassageContent(payload.get("heading"), payload["text"]), payload["source"], vector
            )
        return [stored[number] for number in sorted(stored)]

    def flush(self) -> None:
        """Flush to disk."""
        self._shard.flush()

    def close(self) -> None:
        """Flush to disk and close."""
        self._shard.flush()
        self._shard.close()

    def _point(self, passage: PassageRecord, version: int) -> qdrant.Point:
        vectors: dict[str, Any] = {_SPARSE: self._sparse_encoder.encode_passage(passage.text)}
        if passage.model == self._model:
            vectors[_DENSE] = decode_vector(passage.vector, DIMENSIONS).tolist()
        payload = passage.model_dump(exclude={"vector"}, exclude_none=True) | {"version": version}
        return qdrant.Point(_point_id(passage.document, passage.part), vectors, payload)


def _configuration() -> qdrant.EdgeConfig:
    """Return the configuration, without a write-ahead log: `poise.passages` is read again from the last flush."""
    return qdrant.EdgeConfig(
        vectors={_DENSE: qdrant.EdgeVectorParams(size=DIMENSIONS, distance=qdrant.Distance.Dot)},
        sparse_vectors={_SPARSE: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        max_search_threads=1,
        wal_enabled=False,
    )


def _point_id(document: str, passage_number: int) -> str:
    return str(uuid5(NAMESPACE_OID, passage_record_key(document, passage_number)))


def _to_hit(point: qdrant.ScoredPoint) -> SearchHit:
    payload: dict[str, Any] = point.payload or {}
    return SearchHit(
        document=payload["document"],
        passage_number=payload["part"],
        source=payload["source"],
        heading=payload.get("heading"),
        text=payload["text"],
        document_written_at=payload["published"],
        version=payload.get("version"),
        score=point.score,
    )


def _distinct_texts(hits: Iterator[SearchHit]) -> Iterator[SearchHit]:
    seen = set[str]()
    for hit in hits:
        if hit.text not in seen:
            seen.add(hit.text)
            yield hit
