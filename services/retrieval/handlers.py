"""The retrieval tier's handlers."""

from collections.abc import Mapping

from poise.contracts import Deletion, Document, Message, Retrieve
from poise.messaging import Handler
from services.retrieval.corpus import Corpus
from services.retrieval.embedding import Embedder
from services.retrieval.publishing import Publisher
from services.retrieval.searching import Searcher
from services.retrieval.settings import RetrievalSettings


def handlers(settings: RetrievalSettings, embedder: Embedder, corpus: Corpus) -> Mapping[type[Message], Handler]:
    """One handler by the type of message it takes."""
    searcher, publisher = Searcher(settings, embedder, corpus), Publisher(embedder, corpus)
    return {
        Retrieve: searcher.search,
        Document: publisher.publish,
        Deletion: publisher.delete,
    }
