"""Comparing two Arrow tables as answers: types aside, values to the digit (floats to 12)."""

import decimal
import math

import pyarrow
import pyarrow.types


def cell(value):
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        return f"{value:.9g}"
    if isinstance(value, decimal.Decimal):
        return f"{float(value):.9g}" if value == value.to_integral_value() and abs(value) < 10**9 else f"{value.normalize():f}"
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return f"{float(value):.9g}" if abs(value) < 10**9 else str(value)
    return "NULL" if value is None else str(value)


def rows(table):
    columns = [[cell(v) for v in column.to_pylist()] for column in table.columns]
    return [tuple(row) for row in zip(*columns)]


def numeric(text):
    try:
        return float(text)
    except ValueError:
        return None


def same_row(a, b):
    for x, y in zip(a, b):
        if x == y:
            continue
        fx, fy = numeric(x), numeric(y)
        if fx is None or fy is None or not math.isclose(fx, fy, rel_tol=1e-6, abs_tol=1e-9):
            return False
    return len(a) == len(b)


def as_exact_as(want, got):
    """Doubles in `want` rounded to the digits that a decimal in `got` has: Databricks divides
    decimals as decimals, DuckDB as doubles."""
    for i, (theirs, ours) in enumerate(zip(want.schema.types, got.schema.types)):
        if pyarrow.types.is_floating(theirs) and pyarrow.types.is_decimal(ours):
            rounded = [None if v is None or not math.isfinite(v) else round(v, ours.scale) for v in want.column(i).to_pylist()]
            want = want.set_column(i, want.schema.names[i], pyarrow.array(rounded, pyarrow.float64()))
    return want


def same_answer(got, want):
    """None when they're equal as multisets of rows; what differs otherwise."""
    if got.num_columns != want.num_columns:
        return f"{got.num_columns} columns, want {want.num_columns}"
    a, b = sorted(rows(got)), sorted(rows(as_exact_as(want, got)))
    if len(a) != len(b):
        return f"{len(a)} rows, want {len(b)}"
    for x, y in zip(a, b):
        if not same_row(x, y):
            return f"row {x}, want {y}"
    return None
