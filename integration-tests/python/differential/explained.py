"""What can't be equal between engines, each with its reason. Never a way to hide a wrong answer."""

import re

# A pattern found in the reduced statement, the kind of mismatch, why.
EXPLAINED = []


def explanation(statement, kind):
    for pattern, of_kind, why in EXPLAINED:
        if of_kind == kind and re.search(pattern, statement, re.IGNORECASE):
            return why
    return None
