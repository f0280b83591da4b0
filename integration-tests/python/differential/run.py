"""Runs statements on both engines over several connections, and reduces what differs."""

import collections
import concurrent.futures
import dataclasses
import re
import threading

from . import answer, data, explained, generate, reduce

ENGINES = ("duckdb", "datafusion")
SECONDS_PER_STATEMENT = 30
# Beyond these, a mismatch of the same form is counted only.
REDUCED_PER_FORM = 3
MEANS = re.compile(r"(try_)?avg\(")
MOMENTS = re.compile(r"(var_pop|var_samp|stddev|stddev_pop|skewness|kurtosis|covar_pop|covar_samp|corr)\(")


@dataclasses.dataclass
class Mismatch:
    number: int
    kind: str
    what: str
    sql: str
    original: str
    answers: dict
    why: str | None = None

    def text(self, seed):
        answers = "\n".join(f"    {engine}: {brief}" for engine, brief in self.answers.items())
        explained_as = f"\n    explained: {self.why}" if self.why else ""
        return f"seed {seed}, statement {self.number}: {self.kind}: {self.what[:200]}\n    {self.sql}\n{answers}{explained_as}\n    from: {self.original}"


@dataclasses.dataclass
class Counted:
    """How many values an expression has."""

    tree: generate.Tree

    def sql(self):
        return f"count({self.tree.sql()})"


def nothing(column, counted):
    """Whether a column of answers holds nothing but NULLs, or counts of no values."""
    return set(column.to_pylist()) <= {0} if counted else column.null_count == len(column)


class Run:
    """A number of statements of one seed against one server."""

    def __init__(self, connect, seed, threads=4, on_mismatch=None):
        self.connect, self.seed, self.threads, self.on_mismatch = connect, seed, threads, on_mismatch
        self.local, self.lock = threading.local(), threading.Lock()
        self.counts = collections.Counter()
        self.refusals = collections.Counter()
        self.forms = collections.Counter()
        self.mismatches = []
        self.known = collections.Counter()
        self.statements = None

    def connections(self):
        if not hasattr(self.local, "connections"):
            headers = {"timeout_seconds": str(SECONDS_PER_STATEMENT)}
            self.local.connections = {engine: self.connect(engine, headers) for engine in ENGINES}
        return self.local.connections

    def ask(self, sql):
        """Both answers. A connection that broke is opened anew for the next statement."""
        answers = {engine: answer.ask(connection, sql) for engine, connection in self.connections().items()}
        if any(a.broken for a in answers.values()):
            del self.local.connections
        with self.lock:
            self.counts["statements"] += 1
        return answers

    def learn(self):
        """Forms that an engine refuses whatever the arguments: drawn seldom from then on."""
        def refuses(entry):
            form, queries = entry
            return form.text, all(any(a.refusal for a in self.ask(q.sql()).values()) for q in queries)

        with concurrent.futures.ThreadPoolExecutor(self.threads) as executor:
            refused = {text for text, always in executor.map(refuses, generate.samples()) if always}
        self.counts.clear()
        return frozenset(refused)

    def go_for(self, statements):
        """As many numbers as it takes to run that many statements: those looked at item by item count too."""
        self.statements = generate.Statements(self.seed, self.learn())
        number = 0
        with concurrent.futures.ThreadPoolExecutor(self.threads) as executor:
            while self.counts["statements"] < statements:
                list(executor.map(self.one, range(number, number + 100)))
                number += 100
        return self

    def one(self, number):
        query = self.statements.statement(number)
        with self.lock:
            self.counts[f"shape {query.shape}"] += 1
        self.examine(number, query)

    def examine(self, number, query):
        """Compares; what one engine refuses, or both raise, is looked at item by item."""
        answers = self.ask(query.sql())
        a, b = answers.values()
        found = answer.difference(a, b, query.ordered, query.approximate)
        if found:
            self.mismatch(number, query, found, answers)
            return
        if (a.refusal or b.refusal or a.error) and len(query.items) > 1:
            middle = len(query.items) // 2
            for items in (query.items[:middle], query.items[middle:]):
                self.examine(number, dataclasses.replace(query, items=items))
            return
        with self.lock:
            if a.refusal or b.refusal:
                self.counts["refused"] += 1
                for engine, one in answers.items():
                    if one.refusal:
                        self.refusals[f"{engine}: {one.refusal}"] += 1
            elif a.error:
                self.counts["both raise"] += 1
            else:
                self.counts["same"] += 1
                for item in query.items:
                    self.forms.update(node.form.text for node in item.walk() if node.form)

    def mismatch(self, number, query, found, answers):
        with self.lock:
            self.counts[f"mismatch {found[0]}"] += 1
        forms = {node.form.text for item in query.items for node in item.walk() if node.form}
        if len(query.items) == 1 and any(self.known[found[0], form] >= REDUCED_PER_FORM for form in forms):
            with self.lock:
                self.counts["mismatches of a form already reduced"] += 1
            return
        original = query.sql()

        def compare(candidate):
            both = self.ask(candidate.sql())
            return answer.difference(*both.values(), candidate.ordered, candidate.approximate), both

        def differs(candidate):
            difference = compare(candidate)[0]
            return difference is not None and difference[0] == found[0]

        first = found, answers
        small = reduce.smallest(query, differs, data.ROWS_MAX)
        difference, both = compare(small)
        if difference is not None:
            found, answers = difference, both
        why = self.reason(small, found, answers, gone=difference is None) or explained.explanation(*found, answers["duckdb"].text)
        if why is None and found[0] == "error class":
            # Which error came first may have changed while it was reduced.
            why = self.reason(query, *first, gone=False)
        forms = {item.form.text for item in small.items if item.form}
        with self.lock:
            for form in forms:
                self.known[found[0], form] += 1
        made = Mismatch(number, *found, small.sql(), original, {e: a.brief() for e, a in answers.items()}, why)
        self.mismatches.append(made)
        if self.on_mismatch:
            self.on_mismatch(made)

    def reason(self, query, found, answers, gone):
        """Why the engines may differ here, if a closer look at the parts shows it."""
        kind = found[0]
        if kind == "broken" and gone and re.search(r"deadline|more memory or disk", found[1]):
            return "out of time or memory beside other statements; answered alike when asked again"
        if kind == "error class":
            return self.either_error(query, answers)
        if kind == "one raises":
            reasons = (self.beside_null, self.condition_beside_null, self.beside_filter, self.beside_having)
            return next((why for why in (reason(query, answers) for reason in reasons) if why), None)
        return self.noise(query, answers) if kind == "value" else None

    def either_error(self, query, answers):
        """Which of two errors of one statement comes first isn't decided: each must be what both engines raise for a part or a row."""
        wanted = {(a.error, a.state) for a in answers.values()}
        trees = query.items + query.keys + ([query.where] if query.where else [])
        parts = {id(node): node for tree in trees for node in tree.walk() if node.form}.values()
        alone = [dataclasses.replace(query, items=[part], where=None) for part in parts]
        if query.row is None:
            narrowed = [template for row in range(data.ROWS_MAX) for template in generate.of_one_row(query.template, row)]
            alone += [dataclasses.replace(query, template=template) for template in narrowed]
        seen = set()
        for candidate in alone:
            # What one engine refuses, or overflows on its own, it leaves to the other.
            errors = {(a.error, a.state) for a in self.ask(candidate.sql()).values() if not a.refusal and not explained.own_overflow(a)}
            if len(errors) == 1:
                seen |= errors
        return "two parts or rows raise: which comes first isn't decided" if wanted <= seen else None

    def beside_null(self, query, answers):
        """`f(x, NULL)` where x raises, and `FALSE AND x` where x is a constant that raises: an optimizer may evaluate it or not.
        Only in a statement without branches, which must never be evaluated when they aren't taken."""
        raised = next(a for a in answers.values() if a.error)
        answered = next((a.table for a in answers.values() if a.table is not None), None)
        if len(query.items) != 1 or answered is None:
            return None
        text = query.items[0].sql()
        def branches(text):
            return re.search(r"\b(CASE|IF|COALESCE|NVL2?|NANVL)\b", text, re.IGNORECASE)

        nulls = answered.column(answered.num_columns - 1).null_count == answered.num_rows
        # `count(x, NULL)` counts nothing.
        nulls = nulls or (text.startswith("count(") and set(answered.column(answered.num_columns - 1).to_pylist()) == {0})
        strict = nulls and not re.search(r"\b(AND|OR)\b|\bIN \(", text, re.IGNORECASE)
        parts = [node for node in query.items[0].walk() if node.form and node is not query.items[0]]
        for part in parts:
            # A branch inside of the part is the part's own: both engines must raise for it then.
            if branches(text.replace(part.sql(), "")):
                continue
            # An aggregate's argument is no column of groups: how many values it has is.
            asked = Counted(part) if query.shape == "grouped" else part
            alone = self.ask(dataclasses.replace(query, items=[asked], where=None).sql()).values()
            # The other argument may raise by an implicit cast, which is no part of its own.
            if strict and all(a.table is not None and nothing(a.table.column(a.table.num_columns - 1), asked is not part) for a in alone):
                return "something raises beside a NULL: whether it is evaluated isn't decided"
            # What an engine refuses at a value it leaves to the other.
            errors = {(a.error, a.state) for a in alone if not a.refusal}
            if errors == {(raised.error, raised.state)} and (strict or not re.search(r"\bc_\w+", part.sql())):
                return "a part that raises beside a NULL: whether it is evaluated isn't decided"
        return None

    def beside_having(self, query, answers):
        """An aggregate's last step may be taken for groups that HAVING leaves out: without it both raise."""
        if generate.HAVING not in query.template:
            return None
        asked = dataclasses.replace(query, template=query.template.replace(generate.HAVING, ""))
        raised = {(a.error, a.state) for a in answers.values() if a.error}
        found = {(a.error, a.state) for a in self.ask(asked.sql()).values()}
        return "an aggregate raises for a group that HAVING leaves out" if found == raised else None

    def condition_beside_null(self, query, _answers):
        """The same of a condition, which is asked for as an item."""
        if query.where is None:
            return None
        asked = dataclasses.replace(query, items=[query.where], where=None)
        answers = self.ask(asked.sql())
        found = answer.difference(*answers.values(), asked.ordered, asked.approximate)
        return self.beside_null(asked, answers) if found and found[0] == "one raises" else None

    def beside_filter(self, query, answers):
        """A condition that both engines find to raise: of which rows it is asked depends on the order of filters,
        and of a join's sides, on whether it is asked before the join."""
        if query.where is None:
            return None
        raised = next(a for a in answers.values() if a.error)
        parts = [query.where] + [node for node in query.where.walk() if node.form]
        for part in parts:
            for template in [query.template, *generate.sides(query.template)]:
                asked = dataclasses.replace(query, template=template, items=[part], where=None, row=None)
                if {(a.error, a.state) for a in self.ask(asked.sql()).values()} == {(raised.error, raised.state)}:
                    return "a condition raises: of which rows it is asked isn't decided"
        return None

    def noise(self, query, answers):
        """Why, if every column that differs holds rounding noise."""
        pairs = list(zip(*(sorted(answer.rows(a.table), key=lambda row: (answer.nearly(row), repr(row))) for a in answers.values())))
        width = len(pairs[0][0])
        why = None
        for at in range(width):
            column = [(p[at], q[at]) for p, q in pairs]
            if all(answer.close(p, q) for p, q in column):
                continue
            item = at - (width - len(query.items))
            why = self.noise_of(query.items[item], query, column) if item >= 0 else None
            if why is None:
                return None
        return why

    def noise_of(self, item, query, pairs):
        """Moments are differences of large numbers. Told by what both engines say of the arguments: how
        large they are, and that they hardly vary."""
        mean = MEANS.match(item.sql())
        if query.shape != "grouped" or not (mean or MOMENTS.match(item.sql())):
            return None
        bounds = [generate.Tree("f64", f"max(abs(CAST({child.inner()} AS DOUBLE)))") for child in item.children]
        spreads = [generate.Tree("f64", f"var_pop(CAST({child.inner()} AS DOUBLE))") for child in item.children]
        told = self.ask(dataclasses.replace(query, items=bounds + spreads).sql())["datafusion"].table
        if told is None:
            return None
        columns = [[v or 0.0 for v in column.to_pylist()] for column in told.columns[-2 * len(item.children):]]
        scale = 1.0
        for column in columns[: len(item.children)] * (2 if len(item.children) == 1 and not mean else 1):
            scale *= max(column, default=0.0)
        flat = any(spread <= 1e-12 * bound**2 for bounds, spreads in zip(columns[: len(columns) // 2], columns[len(columns) // 2:]) for bound, spread in zip(bounds, spreads) if bound)
        if re.match("kurtosis|skewness|corr", item.sql()):
            return "moments of values that hardly vary: rounding decides" if flat else None
        power = 2 if item.sql().startswith("stddev") else 1
        off = [abs(p.value**power - q.value**power) for p, q in pairs if p is not None and q is not None and p != q]
        return "rounding of differences of large numbers" if off and max(off) <= 1e-11 * scale else None

    def unexplained(self):
        return [m for m in self.mismatches if m.why is None]

    def summary(self):
        lines = [f"{self.counts['statements']:>8} statements run on each engine"]
        lines += [f"{n:>8} {what}" for what, n in sorted(self.counts.items()) if what != "statements"]
        lines += ["refused most:"] + [f"{n:>8} {why}" for why, n in self.refusals.most_common(40)]
        never = sorted({f.text for f in generate.SCALARS} - set(self.forms))
        lines += [f"{len(never)} forms never answered by both: {'; '.join(never)}"]
        return "\n".join(lines)
