"""What can't be equal between engines, each with its reason. Never a way to hide a wrong answer."""

import re

# The kind of mismatch, a pattern found in its particulars, why.
EXPLAINED = [
    (
        "error class",
        r"^ARITHMETIC_OVERFLOW 22003 / NUMERIC_VALUE_OUT_OF_RANGE\S* 22003$",
        "a decimal beyond 38 digits: DuckDB's own overflow, which has the same SQL state",
    ),
]


def explanation(kind, what):
    return next((why for of_kind, pattern, why in EXPLAINED if of_kind == kind and re.search(pattern, what)), None)
