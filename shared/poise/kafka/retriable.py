"""The errors that a loop of a process retries. Any other error ends the process with its reason: see `liveness`."""

from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownError

from poise.errors import RetryableError, TransportError


def is_retriable(error: BaseException) -> bool:
    """Return whether work that failed with an error is to be retried with backoff: a restart would not help."""
    match error:
        case KafkaError():  # aiokafka calls these two final; the Java client retries both
            return error.retriable or isinstance(error, KafkaTimeoutError | UnknownError)
        case TransportError() | RetryableError() | TimeoutError():
            return True
    return False
