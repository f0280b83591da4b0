"""What one fault did, and the table of them all."""

import dataclasses


@dataclasses.dataclass
class Promise:
    """What must hold. One of the clock depends on how busy the machine is; one of logic never does."""

    held: bool
    text: str
    clock: bool

    def __str__(self):
        return self.text if self.held else f"NOT HELD{' (clock)' if self.clock else ''}: {self.text}"


@dataclasses.dataclass
class Row:
    """One fault's outcome: how often it was done, and what came of the queries that met it."""

    fault: str
    # Faults that were asked for, and those that really struck.
    wanted: int = 0
    injected: int = 0
    queries: int = 0
    wrong: int = 0
    errors: int = 0
    errors_allowed: bool = False
    promises: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)

    def attempts(self, wanted):
        """Once for each fault, and again for those that found nothing to strike; not for ever."""
        self.wanted = wanted
        for _ in range(3 * wanted + 5):
            if self.injected >= wanted:
                return
            yield self.injected

    def promise(self, held, text, clock=False):
        self.promises.append(Promise(bool(held), text, clock))

    def within(self, what, values, limit, share=0.99):
        """A promise of the clock on the given share of `values`; `limit` and `values` are seconds."""
        self.promise(values, f"{what}: {len(values)} measured")
        if values:
            ordered = sorted(values)
            at = min(len(ordered) - 1, int(share * len(ordered)))
            self.promise(ordered[at] <= limit, f"{what} p{share * 100:.0f} {ordered[at]:.2f} s (limit {limit:g} s)", clock=True)

    def wrong_answer(self, text):
        self.wrong += 1
        self.note(f"WRONG: {text}")

    def client_error(self, error):
        self.errors += 1
        self.note(f"error: {error}")

    def take(self, load):
        """Counts what a load's clients saw."""
        self.queries += load.answered + len(load.errors)
        self.wrong += len(load.wrong)
        self.errors += len(load.errors)
        for note in load.wrong[:2] + load.errors[:2]:
            self.note(note)

    def note(self, text):
        if len(self.notes) < 5:
            self.notes.append(" ".join(str(text).split())[:300])

    @property
    def held_by_logic(self):
        """Whatever the machine's speed: every fault struck, no wrong answer, no error that isn't allowed."""
        counted = self.wanted > 0 and self.injected >= self.wanted
        return counted and not self.wrong and (self.errors_allowed or not self.errors) and all(p.held for p in self.promises if not p.clock)

    @property
    def held(self):
        return self.held_by_logic and all(p.held for p in self.promises)

    def text(self):
        verdict = "ok" if self.held else "late" if self.held_by_logic else "FAILED"
        counts = f"{f'{self.injected}/{self.wanted}':>10}{self.queries:>9}{self.wrong:>7}{self.errors:>8}"
        lines = [f"{verdict:7}{self.fault:52}{counts}  {'; '.join(map(str, self.promises))}"]
        if not self.held:
            lines += [f"         {note}" for note in self.notes]
        return "\n".join(lines)


HEADER = f"{'':7}{'fault':52}{'struck/of':>10}{'queries':>9}{'wrong':>7}{'errors':>8}  what held"
