"""What can't be equal between engines, each with its reason. Never a way to hide a wrong answer."""

import re

OWN_OVERFLOW_TEXT = r"Overflow in (\w+ of (DECIMAL|INT128)|HUGEINT \w+)"
OWN_OVERFLOW = "DuckDB's own overflow: it doesn't say of what, and a query that was routed there is asked again of another engine"

# The kind of mismatch, a pattern found in its particulars, one found in DuckDB's error, why.
EXPLAINED = [
    (
        "error class",
        r"^ARITHMETIC_OVERFLOW 22003 / (NUMERIC_VALUE_OUT_OF_RANGE|DATETIME_OVERFLOW|INTERVAL_ARITHMETIC_OVERFLOW|CAST_OVERFLOW)",
        r"Overflow in|[Oo]ut of [Rr]ange",
        OWN_OVERFLOW,
    ),
    ("error class", r"^ARITHMETIC_OVERFLOW 22003 / ", OWN_OVERFLOW_TEXT, OWN_OVERFLOW),
    (
        "broken",
        r"would be made .*\(ResourceExhausted",
        r"",
        "a limit of memory: one engine refuses what may pass it before it runs, the other where it does",
    ),
    ("one raises", r"^ARITHMETIC_OVERFLOW$", OWN_OVERFLOW_TEXT, OWN_OVERFLOW),
]


def own_overflow(answer):
    """DuckDB's, which stands for none of Databricks' errors."""
    return answer.error == "ARITHMETIC_OVERFLOW" and re.search(OWN_OVERFLOW_TEXT, answer.text) is not None


def explanation(kind, what, duckdb_error):
    for of_kind, particulars, error, why in EXPLAINED:
        if of_kind == kind and re.search(particulars, what) and re.search(error, duckdb_error):
            return why
    return None
