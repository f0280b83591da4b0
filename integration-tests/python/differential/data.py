"""The tables: extremes in one, plain values in another, and one without nulls. The same for every run."""

import datetime as dt
import decimal
import random

import pyarrow as pa
import pyarrow.parquet as pq

D = decimal.Decimal
UTC = dt.UTC

# Column, its kind as the generator calls it, its Arrow type.
COLUMNS = [
    ("c_i8", "i8", pa.int8()),
    ("c_i16", "i16", pa.int16()),
    ("c_i32", "i32", pa.int32()),
    ("c_n", "n", pa.int32()),
    ("c_i64", "i64", pa.int64()),
    ("c_f32", "f32", pa.float32()),
    ("c_f64", "f64", pa.float64()),
    ("c_d92", "dec", pa.decimal128(9, 2)),
    ("c_d186", "dec", pa.decimal128(18, 6)),
    ("c_d3810", "dec", pa.decimal128(38, 10)),
    ("c_d380", "dec", pa.decimal128(38, 0)),
    ("c_s", "str", pa.string()),
    ("c_num", "str", pa.string()),
    ("c_day", "str", pa.string()),
    ("c_b", "bin", pa.binary()),
    ("c_bool", "bool", pa.bool_()),
    ("c_date", "date", pa.date32()),
    ("c_ts", "ts", pa.timestamp("us", tz="UTC")),
    ("c_ntz", "ntz", pa.timestamp("us")),
    ("c_ai", "ai", pa.list_(pa.int32())),
    ("c_as", "as", pa.list_(pa.string())),
    ("c_st", "st", pa.struct([("a", pa.int32()), ("b", pa.string())])),
    ("c_m", "m", pa.map_(pa.string(), pa.int32())),
]

EXTREME = {
    "c_i8": [-128, 127, 0, -1, 1, None],
    "c_i16": [-32768, 32767, 0, -1, 1, None],
    "c_i32": [-(2**31), 2**31 - 1, 0, -1, 1, 255, None],
    "c_n": [-3, -1, 0, 1, 2, 7, None],
    "c_i64": [-(2**63), 2**63 - 1, 0, -1, 1, 2**53 + 1, None],
    "c_f32": [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1e-45, 3.4028234663852886e38, 0.1, 16777216.0, None],
    "c_f64": [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e-7, 1e7, 9007199254740993.0, -2.5, None],
    "c_d92": [D("9999999.99"), D("-9999999.99"), D("0.00"), D("0.01"), D("-0.50"), D("2.50"), None],
    "c_d186": [D("999999999999.999999"), D("-999999999999.999999"), D("0.000001"), D("0.500000"), D("-1.500000"), None],
    "c_d3810": [D("9" * 28 + "." + "9" * 10), D("-" + "9" * 28 + "." + "9" * 10), D("0.0000000001"), D("1.5000000000"), None],
    "c_d380": [D("9" * 38), D("-" + "9" * 38), D(0), D(1), D(-1), None],
    "c_s": ["", " ", "ß", "İ", "ıI", "e\u0301", "é", "\U0001f600\U0001f44d\U0001f3fd", "a%b_c\\", "O'Brien", "ﬁ", "Σς", "\u00a0x\u00a0", "\t a\n", "A" * 40, "ǅ", None],
    "c_num": ["1e400", "-0", "0x10", "NaN", "Infinity", "9223372036854775808", "1.5e-3", " 42 ", "١", "+7", ".5", "5.", "1_000", "", None],
    "c_day": ["0001-01-01", "9999-12-31", "2024-02-29", "2023-02-29", "2024-03-10 02:30:00", "2024-1-5", "10000-01-01", "-0001-01-01", "12:30", "2024-11-03T01:30:00.123456789Z", "2024-06-01 10:00:00 America/New_York", "epoch", None],
    "c_b": [b"", b"\x00", b"\xff\xfe", "ß".encode(), b"abc", None],
    "c_bool": [True, False, None],
    "c_date": [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1582, 10, 4), dt.date(1582, 10, 15), dt.date(1970, 1, 1), dt.date(2024, 2, 29), dt.date(1900, 2, 28), dt.date(2021, 1, 3), None],
    "c_ts": [
        dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), dt.datetime(2024, 3, 10, 9, 59, 59, 999999, UTC),
        dt.datetime(2024, 3, 10, 10, tzinfo=UTC), dt.datetime(2024, 11, 3, 5, 30, tzinfo=UTC), dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        dt.datetime(1883, 11, 18, 17, tzinfo=UTC), dt.datetime(1970, 1, 1, tzinfo=UTC), None,
    ],
    "c_ntz": [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(2024, 3, 10, 2, 30), dt.datetime(2024, 11, 3, 1, 30), dt.datetime(1969, 12, 31, 23, 59, 59, 999999), None],
    "c_ai": [[], [None], [1, None, 1], [2**31 - 1, -(2**31)], [0], None],
    "c_as": [[], [None], ["", None, "ß"], ["b", "a", "b"], None],
    "c_st": [{"a": None, "b": None}, {"a": 2**31 - 1, "b": ""}, {"a": 0, "b": "İ"}, None],
    "c_m": [[], [("", None)], [("a", 1), ("b", None)], [("ß", -(2**31)), ("ss", 0)], None],
}

MILD = {
    "c_i8": [0, 1, 2, 3, 5, -4, 10, None],
    "c_i16": [0, 1, 2, 100, -7, 30, None],
    "c_i32": [0, 1, 2, 3, -5, 12, 100, 2024, None],
    "c_n": [1, 2, 3, 0, -1, 4, None],
    "c_i64": [0, 1, 2, -3, 1_000_000, 1_700_000_000, None],
    "c_f32": [0.0, 1.5, -2.25, 0.1, 100.0, -0.0, None],
    "c_f64": [0.0, 1.5, -2.5, 0.1, 2.675, 1e3, -1e-3, 3.5, -0.0, None],
    "c_d92": [D("0.00"), D("1.25"), D("-3.50"), D("12.34"), D("100.00"), None],
    "c_d186": [D("0.000000"), D("1.234567"), D("-0.500000"), D("7.000000"), None],
    "c_d3810": [D("0.5000000000"), D("-2.2500000000"), D("123456.7890123456"), D("3.0000000000"), None],
    "c_d380": [D(0), D(3), D(-12), D(10**9), None],
    "c_s": ["abc", "Hello World", "a,b,c", "", "Straße", "x1y2", "  pad ", "naïve", "日本語", "ABC", "a.b", "-12", None],
    "c_num": ["1", "2.5", "-3", " 4 ", "1e2", "0", "007", None],
    "c_day": ["2024-01-31", "2023-12-25", "2024-02-29 12:34:56", "2020-06", "1999", "2024-07-04T10:20:30.5", None],
    "c_b": [b"abc", b"", b"\x01\x02", b"xyz", None],
    "c_bool": [True, False, None],
    "c_date": [dt.date(2024, 1, 31), dt.date(2024, 2, 29), dt.date(2023, 12, 31), dt.date(2000, 6, 15), dt.date(2024, 7, 1), dt.date(1969, 7, 20), None],
    "c_ts": [
        dt.datetime(2024, 1, 31, 10, 20, 30, 123456, UTC), dt.datetime(2024, 3, 10, 7, tzinfo=UTC), dt.datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC),
        dt.datetime(1969, 7, 20, 20, 17, 40, 500000, UTC), dt.datetime(2000, 1, 1, tzinfo=UTC), None,
    ],
    "c_ntz": [dt.datetime(2024, 1, 31, 10, 20, 30, 123456), dt.datetime(2024, 2, 29, 23, 59, 59), dt.datetime(1999, 12, 31), dt.datetime(1969, 7, 20, 20, 17, 40, 500000), None],
    "c_ai": [[1, 2, 3], [3, 1, 2], [], [5], [1, None, 2], [2, 2], None],
    "c_as": [["a", "b"], ["b", None], [], ["x y", "z"], None],
    "c_st": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": None, "b": "z"}, {"a": 1, "b": "x"}, None],
    "c_m": [[("a", 1)], [("a", 2), ("b", 3)], [], [("k", None)], None],
}

# Name: the values, rows, whether nulls are left out.
TABLES = {"extreme": (EXTREME, 32, False), "mild": (MILD, 40, False), "solid": (MILD, 24, True)}
ROWS_MAX = max(rows for _, rows, _ in TABLES.values())


def write(folder):
    """Every table as a folder of two Parquet files, so that reads may be parallel."""
    for number, (name, (values, rows, solid)) in enumerate(TABLES.items()):
        chooser = random.Random(number)
        columns = [pa.array(range(rows), pa.int32())]
        fields = [pa.field("id", pa.int32(), nullable=False)]
        for column, _, kind in COLUMNS:
            pool = [v for v in values[column] if not (solid and v is None)]
            # Each value at least once, where there are rows enough.
            drawn = pool[:rows] + [chooser.choice(pool) for _ in range(rows - len(pool))]
            chooser.shuffle(drawn)
            columns.append(pa.array(drawn, kind))
            fields.append(pa.field(column, kind, nullable=not solid))
        table = pa.table(columns, schema=pa.schema(fields))
        target = folder / name
        target.mkdir(parents=True)
        for part in range(2):
            pq.write_table(table.slice(part * rows // 2, rows // 2), target / f"part-{part}.parquet")
