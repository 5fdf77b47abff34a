"""Calls the gateway with the client that openapi-python-client generates from the gateway's OpenAPI document.

Runs in a separate Python environment, with the client beside it as `poise_client`. Prints the results as one line of
JSON.
"""

import json
import sys
from typing import TypeVar

from poise_client import Client
from poise_client.api.asks import ask
from poise_client.api.documents import delete_document, put_documents
from poise_client.api.feedback import give_feedback
from poise_client.api.runs import show_run
from poise_client.models import Answer, Ask, DocumentsAccepted, Fault, Feedback, FeedbackAccepted, NewDocument, RunView

T = TypeVar("T")


def found(kind: type[T], result: object) -> T:
    """Return the result; raise an error if it is of another type."""
    if not isinstance(result, kind):
        raise TypeError(str(result))
    return result


client = Client(base_url=sys.argv[1])
asked = ask.sync_detailed(client=client, body=Ask(question="Why?"))
answer = found(Answer, asked.parsed)
one = put_documents.sync(client=client, body=NewDocument(id="shelf/one", text="One."))
many = put_documents.sync(client=client, body=[NewDocument(id="shelf/two", text="Two.")])
gone = delete_document.sync("shelf/one", client=client)
given = give_feedback.sync(client=client, body=Feedback(run_id=answer.run_id, rating=4))
shown = show_run.sync(answer.run_id, client=client)
problem = found(Fault, ask.sync(client=client, body=Ask(question="")))
missing = found(Fault, show_run.sync("none", client=client))

print(  # noqa: T201 - a test reads it
    json.dumps(
        {
            "answer": [answer.text, answer.rung, answer.cached, len(answer.citations)],
            "same_run": answer.run_id == asked.headers["poise-run"],
            "accepted": [
                each.id for result in (one, many, gone) for each in found(DocumentsAccepted, result).documents
            ],
            "noted": found(FeedbackAccepted, given).run_id == answer.run_id,
            "status": found(RunView, shown).status,
            "problem": [problem.status, problem.type_, [each.field for each in problem.errors]],
            "missing": [missing.status, missing.type_],
        }
    )
)
