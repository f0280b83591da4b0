"""Statements from a seed: expressions of every form in `functions` over the columns of `data`, in every kind of query."""

import dataclasses
import random
import re

from . import data, functions, subqueries

NUMBERS = ["i8", "i16", "i32", "i64", "f32", "f64", "dec"]
WHOLE = NUMBERS[:4]
COMPARED = NUMBERS + ["str", "bin", "bool", "date", "ts", "ntz", "ai", "st"]
ANY = COMPARED + ["as", "m"]
LITERALS = {
    "i8": ["1Y", "-128Y", "127Y", "CAST(NULL AS TINYINT)"],
    "i16": ["2S", "32767S", "-1S"],
    "i32": ["0", "1", "-1", "7", "2147483647", "-2147483648", "CAST(NULL AS INT)"],
    "n": ["0", "1", "2", "3", "-1", "5"],
    "i64": ["0L", "3L", "9223372036854775807L", "-5L"],
    "f32": ["1.5F", "CAST('NaN' AS FLOAT)", "0.1F", "-0.0F"],
    "f64": ["1.5D", "0.0D", "-0.0D", "CAST('NaN' AS DOUBLE)", "CAST('-Infinity' AS DOUBLE)", "1e10", "1e-10", "2.5D"],
    "dec": ["1.5", "0.00", "-2.25", "99999999.99", "12345678901234567890.123456789", "0.005", "10"],
    "str": ["''", "'abc'", "'ß'", "'12'", "' 2024-01-31 '", "'b'", "'İ'", "','", "CAST(NULL AS STRING)", "'\U0001f600'"],
    "bin": ["X'00FF'", "X''", "CAST('abc' AS BINARY)"],
    "bool": ["TRUE", "FALSE", "CAST(NULL AS BOOLEAN)"],
    "date": ["DATE '2024-02-29'", "DATE '0001-01-01'", "DATE '9999-12-31'", "CAST(NULL AS DATE)"],
    "ts": ["TIMESTAMP '2024-03-10 02:30:00'", "TIMESTAMP '1969-12-31 23:59:59.999999'", "TIMESTAMP '9999-12-31 23:59:59'"],
    "ntz": ["TIMESTAMP_NTZ '2024-01-31 10:00:00'", "TIMESTAMP_NTZ '0001-01-01 00:00:00'"],
    "ai": ["array(1, 2)", "array(CAST(NULL AS INT))"],
    "as": ["array('a', 'b')", "array('')"],
    "st": ["named_struct('a', 1, 'b', 'x')"],
    "m": ["map('a', 1)"],
}
# What a place of some kind takes, besides that kind.
TAKES = {"N": NUMBERS, "I": WHOLE, "C": COMPARED, "T": ANY}


HAVING = " HAVING count(*) > 1"


@dataclasses.dataclass
class Form:
    """A line of `functions`: texts between places, what the places take, the result."""

    text: str
    pieces: list
    places: list
    result: str


def forms(lines):
    made = []
    for line in lines:
        text, result = line.rsplit(" -> ", 1)
        # `<` and `>` as operators stand between spaces.
        parts = re.split(r"<(?![=> ])((?:[^<>'\s]|'[^']*'(?: [A-Z]+)?)+)>", text)
        made.append(Form(text, parts[0::2], parts[1::2], result))
    return made


SCALARS = forms(line for line in functions.SCALARS.strip().splitlines())
CASTS = forms(functions.casts())
AGGREGATES = forms(functions.AGGREGATES.strip().splitlines())
WINDOWS = forms(functions.WINDOWS.strip().splitlines())


@dataclasses.dataclass
class Tree:
    """An expression. A leaf has no form."""

    kind: str
    text: str = ""
    form: Form | None = None
    children: list = dataclasses.field(default_factory=list)

    def sql(self):
        if self.form is None:
            return self.text
        out = [self.form.pieces[0]]
        for child, piece in zip(self.children, self.form.pieces[1:]):
            out += [child.inner(), piece]
        return "".join(out)

    def inner(self):
        text = self.sql()
        return f"({text})" if self.form and not (is_call(text) or text.startswith("CASE ")) else text

    def walk(self):
        yield self
        for child in self.children:
            yield from child.walk()

    def replaced(self, old, new):
        if self is old:
            return new
        return dataclasses.replace(self, children=[c.replaced(old, new) for c in self.children])


def is_call(text):
    """`f(...)`, whose first parenthesis is closed by its last: not `f(a) / g(b)`."""
    begin = re.match(r"\w+\(", text)
    if not begin or not text.endswith(")"):
        return False
    depth = 0
    for at, token in enumerate(tokens := re.findall(r"'(?:[^'\\]|\\.)*'|[()]|[^'()]+", text)):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == ")" and depth == 0:
            return at == len(tokens) - 1
    return False


class Expressions:
    """Draws expressions over the columns in scope."""

    def __init__(self, chooser, columns, refused=frozenset()):
        self.chooser, self.columns, self.refused = chooser, columns, refused
        self.by_result = {}
        for form in SCALARS + CASTS:
            kinds = TAKES["T"] if form.result == "T" else TAKES["C"] if form.result == "C" else NUMBERS if form.result == "N" else [form.result]
            for kind in kinds:
                self.by_result.setdefault(kind, []).append(form)

    def leaf(self, kind):
        columns = self.columns.get(kind, [])
        if columns and self.chooser.random() < 0.8:
            return Tree(kind, self.chooser.choice(columns))
        return Tree(kind, self.chooser.choice(LITERALS[kind]))

    def draw(self, kind, depth):
        if depth <= 0 or kind == "n" and self.chooser.random() < 0.9 or self.chooser.random() < 0.25:
            return self.leaf(kind)
        return self.of_form(self.pick(self.by_result.get("i32" if kind == "n" else kind) or SCALARS), depth, kind)

    def pick(self, choices):
        for _ in range(20):
            form = self.chooser.choice(choices)
            # Every cast is one form; together they'd be drawn far too often.
            if form.text.startswith(("CAST(", "try_cast(")) and self.chooser.random() < 0.75:
                continue
            if form.text not in self.refused or self.chooser.random() < 0.02:
                return form
        return form

    def of_form(self, form, depth, wanted=None):
        chosen = {}
        if form.result in ("T", "C") and wanted in TAKES[form.result]:
            chosen[form.result] = wanted
        children = []
        for place in form.places:
            if place in ("T", "C"):
                chosen.setdefault(place, self.chooser.choice(TAKES[place]))
                children.append(self.draw(chosen[place], depth - 1))
            elif place in TAKES:
                children.append(self.draw(self.chooser.choice(TAKES[place]), depth - 1))
            elif place in LITERALS:
                children.append(self.draw(place, depth - 1))
            else:
                children.append(Tree("choice", self.chooser.choice(place.split("|"))))
        numbers = [c.kind for c in children if c.kind in NUMBERS]
        kind = {"T": chosen.get("T"), "C": chosen.get("C"), "N": max(numbers, key=NUMBERS.index, default="i32")}.get(form.result, form.result)
        return Tree(kind, form=form, children=children)

    def any(self, depth):
        """A form first, so that each is drawn as often as any other."""
        pool = CASTS if self.chooser.random() < 0.2 else SCALARS
        for _ in range(30):
            form = self.chooser.choice(pool)
            if form.text not in self.refused or self.chooser.random() < 0.02:
                break
        return self.of_form(form, depth)


def columns(prefix=""):
    found = {}
    for name, kind, _ in data.COLUMNS:
        found.setdefault(kind, []).append(prefix + name)
    found["i32"].append(prefix + "c_n")
    return found


@dataclasses.dataclass
class Query:
    """`template` with `{items}`, `{where}` and others in it; what's in `lists` may be dropped and shrunk."""

    template: str
    items: list
    where: Tree | None = None
    row: int | None = None
    keys: list = dataclasses.field(default_factory=list)
    ordered: bool = False
    approximate: bool = False
    shape: str = "project"

    def sql(self):
        conditions = [f"({self.where.sql()})"] if self.where else []
        if self.row is not None:
            conditions.append(f"id = {self.row}")
        return self.template.format(
            items=", ".join(f"{t.sql()} AS x{i}" for i, t in enumerate(self.items)),
            values=", ".join(t.sql() for t in self.items),
            keys=", ".join(t.sql() for t in self.keys),
            where=" WHERE " + " AND ".join(conditions) if conditions else "",
            on="".join(f" AND ({t.sql()})" for t in ([self.where] if self.where else [])),
        )


TABLE = re.compile(r"\b(FROM|JOIN) (extreme|mild|solid)\b(?: ([abio])\b)?")


def of_one_row(template, row):
    """The same of tables of one row each, or of one row of either of a join's sides."""
    def narrowed(found):
        return f"{found[1]} (SELECT * FROM {found[2]} WHERE id = {row}) {found[3] or found[2]}"

    if "JOIN" not in template:
        return [TABLE.sub(narrowed, template)]
    tables = list(TABLE.finditer(template))
    return [template[: found.start()] + narrowed(found) + template[found.end():] for found in tables]


def sides(template):
    """A join's sides, each alone."""
    if " JOIN " not in template:
        return []
    return [f"SELECT {alias}.id AS i, {{items}} FROM {table} {alias}" for _, table, alias in TABLE.findall(template)]


FRAMES = ["", "", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", " ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING", " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING"]
RANKS = ("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead")


class Statements:
    """The statement of a number: always the same for a seed and a server's refusals."""

    def __init__(self, seed, refused=frozenset()):
        self.seed, self.refused = seed, refused

    def statement(self, number):
        chooser = random.Random(f"{self.seed}/{number}")
        shape = chooser.choices(
            [self.project, self.literal, self.ordered, self.grouped, self.joined, self.nested, self.window, self.combined, self.distinct, self.unread, self.correlated],
            [41, 6, 6, 13, 8, 6, 8, 5, 3, 2, 4],
        )[0]
        return shape(chooser)

    def scope(self, chooser, prefix=""):
        return Expressions(chooser, columns(prefix), self.refused)

    def table(self, chooser):
        return chooser.choices(["extreme", "mild", "solid"], [30, 55, 15])[0]

    def project(self, chooser):
        table, scope = self.table(chooser), self.scope(chooser)
        depth = chooser.choice([1, 1, 2, 2, 3])
        items = [scope.any(depth) for _ in range(chooser.choice([2, 4, 6]))]
        where = scope.draw("bool", 2) if chooser.random() < 0.25 else None
        # One row at a time, where one row's error would hide what the others give.
        row = chooser.randrange(data.TABLES[table][1]) if table == "extreme" and chooser.random() < 0.6 else None
        return Query(f"SELECT id, {{items}} FROM {table}{{where}}", items, where, row)

    def literal(self, chooser):
        scope = Expressions(chooser, {}, self.refused)
        return Query("SELECT 0 AS id, {items}", [scope.any(2) for _ in range(3)], shape="literal")

    def ordered(self, chooser):
        table, scope = self.table(chooser), self.scope(chooser)
        key = scope.draw(chooser.choice(COMPARED), 1)
        direction = chooser.choice(["", " DESC", " NULLS LAST", " DESC NULLS FIRST"])
        limit = chooser.choice(["", " LIMIT 5", " LIMIT 4 OFFSET 3"])
        return Query(f"SELECT id, {{items}} FROM {table}{{where}} ORDER BY x0{direction}, id{limit}", [key], None, ordered=True, shape="ordered")

    def grouped(self, chooser):
        table, scope = self.table(chooser), self.scope(chooser)
        items = [scope.of_form(scope.pick(AGGREGATES), 2) for _ in range(chooser.choice([1, 3, 4]))]
        where = scope.draw("bool", 1) if chooser.random() < 0.3 else None
        if chooser.random() < 0.3:
            return Query(f"SELECT {{items}} FROM {table}{{where}}", items, where, approximate=True, shape="grouped")
        keys = [scope.draw(chooser.choice(COMPARED), chooser.choice([0, 1]))]
        grouping = chooser.choice(["GROUP BY {keys}"] * 4 + ["GROUP BY ROLLUP ({keys})", "GROUP BY {keys}" + HAVING])
        return Query(f"SELECT {{keys}} AS k, {{items}} FROM {table}{{where}} {grouping}", items, where, keys=keys, approximate=True, shape="grouped")

    def joined(self, chooser):
        scope = Expressions(chooser, {k: v + columns("b.")[k] for k, v in columns("a.").items()}, self.refused)
        column = chooser.choice([c for c, kind, _ in data.COLUMNS if kind in COMPARED])
        kind = chooser.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"])
        left, right = self.table(chooser), self.table(chooser)
        on = scope.draw("bool", 1) if chooser.random() < 0.5 else None
        equals = chooser.choice(["=", "=", "<=>"])
        if "SEMI" in kind or "ANTI" in kind:
            scope = self.scope(chooser, "a.")
            items, ids = [scope.any(1)], "a.id AS ia"
        else:
            items, ids = [scope.any(1), scope.any(1)], "a.id AS ia, b.id AS ib"
        return Query(f"SELECT {ids}, {{items}} FROM {left} a {kind} {right} b ON a.{column} {equals} b.{column}{{on}}", items, on, shape="joined")

    def nested(self, chooser):
        scope = self.scope(chooser)
        form = subqueries.nested(chooser, self.table(chooser), self.table(chooser))
        where = scope.draw("bool", 1) if "{where}" in form and chooser.random() < 0.5 else None
        return Query(form, [scope.any(1)], where, shape="nested")

    def window(self, chooser):
        table, scope = self.table(chooser), self.scope(chooser)
        form = scope.pick(WINDOWS)
        call = scope.of_form(form, 1)
        partition = f"PARTITION BY {chooser.choice(['c_n', 'c_bool', 'c_i8', 'c_s', 'c_f64'])} " if chooser.random() < 0.7 else ""
        order = chooser.choice(["c_i32", "c_f64 DESC", "c_s", "c_date NULLS LAST", "c_d92 DESC NULLS FIRST", "c_ts"])
        frame = "" if form.text.startswith(RANKS) else chooser.choice(FRAMES)
        over = f" OVER ({partition}ORDER BY {order}, id{frame})"
        return Query(f"SELECT id, {{values}}{over} AS x0 FROM {table}{{where}}", [call], approximate=True, shape="window")

    def combined(self, chooser):
        scope = self.scope(chooser)
        kind = chooser.choice([k for k in COMPARED if k != "st"])
        other = chooser.choice(NUMBERS) if kind in NUMBERS else kind
        operator = chooser.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"])
        right = scope.draw(other, 1).sql().replace("{", "{{").replace("}", "}}")
        return Query(f"SELECT {{items}} FROM {self.table(chooser)} {operator} SELECT {right} FROM {self.table(chooser)}", [scope.draw(kind, 1)], shape="combined")

    def distinct(self, chooser):
        scope = self.scope(chooser)
        return Query(f"SELECT DISTINCT {{items}} FROM {self.table(chooser)}{{where}}", [scope.draw(chooser.choice(COMPARED), 1) for _ in range(2)], shape="distinct")

    def unread(self, chooser):
        """Constants alone: what isn't read can't raise."""
        constants = Expressions(chooser, {}, self.refused)
        return Query(subqueries.unread(chooser, self.table(chooser)), [constants.any(1)], shape="unread")

    def correlated(self, chooser):
        constant = Tree("choice", chooser.choice(["1", "'a'", "CAST(NULL AS INT)"]))
        return Query(subqueries.correlated(chooser, self.table(chooser), self.table(chooser)), [constant], shape="correlated")


def samples(seed=0):
    """Each form over plain columns, to find out which ones an engine refuses anyway."""
    chooser = random.Random(seed)
    scope = Expressions(chooser, columns())
    for form in SCALARS + CASTS:
        yield form, [Query("SELECT id, {items} FROM mild{where}", [scope.of_form(form, 0)], row=1) for _ in range(3)]
    for form in AGGREGATES:
        yield form, [Query("SELECT {items} FROM mild{where}", [scope.of_form(form, 0)], row=1) for _ in range(3)]
