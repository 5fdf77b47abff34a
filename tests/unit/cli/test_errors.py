import pytest
from pydantic import ValidationError

from poise.cli.errors import exit_code, message_line, report_error
from poise.contracts import Ask, Fault, FieldError
from poise.errors import (
    DeadlineExceededError,
    FaultError,
    InvalidMessageError,
    NotAcknowledgedError,
    PoiseError,
    RetryableError,
    SetupError,
    UnavailableError,
)


def fault(status: int, **fields: object) -> FaultError:
    given = {"type": "urn:poise:x", "title": "Title", "status": status, "detail": "detail", "retryable": False}
    return FaultError(Fault.model_validate(given | fields))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidMessageError("x"), 2),
        (fault(400), 2),
        (fault(413), 2),
        (fault(404), 1),
        (fault(429), 1),
        (fault(503), 1),
        (fault(504), 1),
        (DeadlineExceededError("x"), 1),
        (NotAcknowledgedError("x"), 1),
        (UnavailableError("x"), 1),
        (RetryableError("x"), 1),
        (SetupError("x"), 1),
    ],
)
def test_rejected_input_exits_with_2_and_other_errors_with_1(error: PoiseError, code: int) -> None:
    assert exit_code(error) == code


def test_fault_message_names_the_rejected_fields() -> None:
    error = fault(400, errors=(FieldError(field="question", detail="is too long"), FieldError(field="x", detail="?")))
    assert message_line(error) == "Title: question: is too long; x: ?"


def test_message_line_removes_line_breaks_and_control_characters() -> None:
    assert message_line(SetupError("one\n  two\x1b[31m [bold]three[/]")) == "one two[31m [bold]three[/]"


def test_report_error_writes_one_line_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(SetupError("no [bold]broker[/]: " + "x" * 200)) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err == "poise: no [bold]broker[/]: " + "x" * 200 + "\n"


def test_report_error_names_the_field_of_a_validation_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Ask(question="")
    assert report_error(refused.value) == 2
    assert capsys.readouterr().err.startswith("poise: question: ")


def test_report_error_ignores_bugs(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(TypeError("a bug")) is None
    assert capsys.readouterr().err == ""
