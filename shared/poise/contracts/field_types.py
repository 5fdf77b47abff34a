"""Field types shared by several bodies. A validator accepts exactly what its JSON Schema allows."""

from typing import Any, Final

from pydantic import BeforeValidator

NOT_BLANK: Final = r"[^\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
r"""A pattern: at least one character that is not white space. `\S` differs between Rust, Python and JavaScript; this is
what `str.strip` preserves."""


def _integral_float_as_int(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


INTEGRAL_FLOAT_AS_INT: Final = BeforeValidator(_integral_float_as_int)
"""Accept 4.0 as an integer, as JSON Schema does, because some languages write it so. Must be the last annotation."""
