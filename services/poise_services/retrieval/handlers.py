"""The retrieval tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Deletion, Document, Message, Retrieve
from poise.executors.limited import LimitedExecutor
from poise.worker.context import Handler
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.live_index import LiveIndex
from poise_services.retrieval.publishing import PassagePublisher
from poise_services.retrieval.searching import Searcher
from poise_services.retrieval.settings import RetrievalSettings


def handlers(
    settings: RetrievalSettings, embedder: Embedder, live_index: LiveIndex, executor: LimitedExecutor | None = None
) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type; large documents are split in the executor's process."""
    searcher = Searcher(settings, embedder, live_index)
    publisher = PassagePublisher(embedder, live_index, executor)
    return {
        Retrieve: searcher.search,
        Document: publisher.publish,
        Deletion: publisher.delete,
    }
