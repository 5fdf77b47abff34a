"""Types of fields that several bodies have. What a validator accepts and what its JSON Schema says are the same."""

from typing import Any, Final

from pydantic import BeforeValidator

NOT_BLANK: Final = r"[^\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
r"""A pattern: some character that is no white space. `\S` means something else in each of Rust, Python and JavaScript;
this is what `str.strip` leaves."""


def _integral_float_as_int(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL_FLOAT_AS_INT: Final = BeforeValidator(_integral_float_as_int)
"""Of an integer: as JSON Schema has it, where 4.0 is one; that is how some languages write it. Stands last."""
