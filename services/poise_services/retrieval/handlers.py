"""The retrieval tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Deletion, Document, Message, Retrieve
from poise.executors.limited import LimitedExecutor
from poise.worker.context import Handler
from poise_services.retrieval.corpus import Corpus
from poise_services.retrieval.embedding import Embedder
from poise_services.retrieval.publishing import PassagePublisher
from poise_services.retrieval.searching import Searcher
from poise_services.retrieval.settings import RetrievalSettings


def handlers(
    settings: RetrievalSettings, embedder: Embedder, corpus: Corpus, executor: LimitedExecutor | None = None
) -> Mapping[type[Message], Handler]:
    """Return the handlers by message type; large documents are split in the executor's process."""
    searcher = Searcher(settings, embedder, corpus)
    publisher = PassagePublisher(embedder, corpus, executor)
    return {
        Retrieve: searcher.search,
        Document: publisher.publish,
        Deletion: publisher.delete,
    }
