"""What one fault did, and the table of them all."""

import dataclasses


@dataclasses.dataclass
class Row:
    """One fault's outcome. `promises` are what must hold: (whether it did, in words)."""

    fault: str
    trials: int = 0
    wrong: int = 0
    errors: int = 0
    errors_allowed: bool = False
    promises: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)

    def promise(self, held, text):
        self.promises.append((bool(held), text))

    def within(self, what, values, limit, share=0.99):
        """A promise on the given share of `values`; `limit` and `values` are seconds."""
        if not values:
            self.promise(False, f"{what}: nothing was measured")
            return
        ordered = sorted(values)
        at = min(len(ordered) - 1, int(share * len(ordered)))
        self.promise(ordered[at] <= limit, f"{what} p{share * 100:.0f} {ordered[at]:.2f} s (limit {limit:g} s)")

    def wrong_answer(self, text):
        self.wrong += 1
        self.note(f"WRONG: {text}")

    def client_error(self, error):
        self.errors += 1
        self.note(f"error: {error}")

    def note(self, text):
        if len(self.notes) < 5:
            self.notes.append(" ".join(str(text).split())[:300])

    @property
    def held(self):
        return not self.wrong and (self.errors_allowed or not self.errors) and all(held for held, _ in self.promises)

    def text(self):
        promised = "; ".join(text if held else f"NOT HELD: {text}" for held, text in self.promises)
        lines = [f"{'ok' if self.held else 'FAILED':7}{self.fault:46}{self.trials:>7}{self.wrong:>7}{self.errors:>8}  {promised}"]
        if not self.held:
            lines += [f"         {note}" for note in self.notes]
        return "\n".join(lines)


HEADER = f"{'':7}{'fault':46}{'trials':>7}{'wrong':>7}{'errors':>8}  what held"
