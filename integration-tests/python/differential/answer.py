"""One engine's answer to a statement, and whether two answers are the same."""

import dataclasses
import math
import re

import pyarrow as pa

CLASS = re.compile(r"\[FlightSQL\] \[([A-Z][A-Z0-9_.]*)\]")
STATE = re.compile(r"SQLSTATE: (\w{5})")
# Float results that only aggregates and windows may have: their order of addition isn't decided.
# Moments of values that lie far from zero lose half of the digits.
RELATIVE = 1e-7
ABSOLUTE = 1e-6


@dataclasses.dataclass
class Answer:
    """A table, an error, or a refusal."""

    table: pa.Table | None = None
    error: str | None = None
    state: str | None = None
    refusal: str | None = None
    broken: bool = False
    text: str = ""

    def brief(self, limit=600):
        if self.table is None:
            return self.text[:limit]
        schema = ", ".join(f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in self.table.schema)
        return f"[{schema}] {sorted(rows(self.table), key=repr)}"[:limit]


def ask(connection, sql):
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql)
            return Answer(table=cursor.fetch_arrow_table())
        except Exception as error:
            return failed(str(error))


def failed(text):
    status = text.split(":", 1)[0]
    if status == "NOT_IMPLEMENTED" or "not eligible" in text:
        return Answer(refusal=reason(text), text=text)
    found, state = CLASS.search(text), STATE.search(text)
    error = found[1] if found else status
    broken = status in ("INTERNAL", "IO", "UNKNOWN", "TIMEOUT", "CANCELLED", "INVALID_DATA", "INVALID_STATE") or "panicked" in text
    return Answer(error=error, state=state[1] if state else None, broken=broken, text=text)


def reason(text):
    """A refusal without its particulars, for counting."""
    text = re.sub(r"^.*?not eligible: (no engine may run this query: )?", "", text, flags=re.DOTALL)
    text = re.sub(r"(datafusion|duckdb): the session pins engine `\w+`(; )?", "", text)
    text = text.split("(Unimplemented")[0].split("(line ")[0]
    return re.sub(r"'[^']*'|\d+", "_", text).strip()[:110]


def difference(a, b, ordered=False, approximate=False):
    """None when both answers may stand beside each other; otherwise the kind of mismatch and the particulars."""
    for one in (a, b):
        if one.broken:
            return "broken", one.text
    if a.refusal or b.refusal:
        return None
    if a.error or b.error:
        if a.error and b.error:
            return None if (a.error, a.state) == (b.error, b.state) else ("error class", f"{a.error} {a.state} / {b.error} {b.state}")
        return ("one raises", a.error or b.error)
    if not a.table.schema.equals(b.table.schema):
        pairs = zip(a.table.schema, b.table.schema)
        return "schema", "; ".join(f"{x} {x.nullable} / {y} {y.nullable}" for x, y in pairs if not x.equals(y))
    if a.table.num_rows != b.table.num_rows:
        return "rows", f"{a.table.num_rows} / {b.table.num_rows}"
    x, y = rows(a.table), rows(b.table)
    if not ordered:
        place = (lambda row: (nearly(row), repr(row))) if approximate else repr
        x, y = sorted(x, key=place), sorted(y, key=place)
    if x == y:
        return None
    differing = [(p, q) for p, q in zip(x, y) if p != q and not (approximate and close(p, q))]
    return ("value", f"{differing[0][0]} / {differing[0][1]}") if differing else None


def rows(table):
    return list(zip(*(cells(column) for column in table.columns))) if table.num_columns else [()] * table.num_rows


def cells(column):
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_floating(kind):
        return [Float(v) if v is not None else None for v in column.to_pylist()]
    try:
        return [plain(v) for v in column.to_pylist()]
    except (ValueError, OverflowError, NotImplementedError, KeyError):
        return [str(column.slice(i, 1)) for i in range(len(column))]


def plain(value):
    if isinstance(value, float):
        return Float(value)
    if isinstance(value, list):
        return tuple(plain(v) for v in value)
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, plain(v)) for k, v in value.items())
    return value


class Float:
    """NaN equals NaN, and -0.0 isn't 0.0."""

    def __init__(self, value):
        self.value, self.text = value, repr(value)

    def __eq__(self, other):
        return isinstance(other, Float) and self.text == other.text

    def __hash__(self):
        return hash(self.text)

    def __repr__(self):
        return self.text


def nearly(value):
    """Where a row sorts: the same place for values that are close."""
    if isinstance(value, tuple):
        return repr([nearly(v) for v in value])
    return f"{value.value + 0.0:.4g}" if isinstance(value, Float) else repr(value)


def close(a, b):
    if isinstance(a, Float) and isinstance(b, Float):
        return a == b or (not math.isinf(a.value) and math.isclose(a.value, b.value, rel_tol=RELATIVE, abs_tol=ABSOLUTE))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))
    return a == b
