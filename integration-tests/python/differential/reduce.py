"""A statement that differs, made small: fewer items, fewer rows, smaller expressions, as long as it still differs."""

import dataclasses

from .generate import LITERALS, Tree, columns

MOST_TRIALS = 160


def smallest(query, differs, rows):
    """`differs(query)` runs one; the result still differs."""
    trials = 0
    shrunk = True
    while shrunk and trials < MOST_TRIALS:
        shrunk = False
        for candidate in smaller(query, rows):
            trials += 1
            if trials > MOST_TRIALS:
                break
            if differs(candidate):
                query, shrunk = candidate, True
                break
    return query


def smaller(query, rows):
    if len(query.items) > 1:
        for item in query.items:
            yield dataclasses.replace(query, items=[item])
        for i in range(len(query.items)):
            yield dataclasses.replace(query, items=query.items[:i] + query.items[i + 1 :])
    if query.where is not None:
        yield dataclasses.replace(query, where=None)
    if query.shape == "project" and query.row is None:
        for row in range(rows):
            yield dataclasses.replace(query, row=row)
    for i, item in enumerate(query.items):
        for tree in shrinks(item, query.shape in ("grouped", "window")):
            yield dataclasses.replace(query, items=query.items[:i] + [tree] + query.items[i + 1 :])
    for i, key in enumerate(query.keys):
        for tree in shrinks(key, False):
            yield dataclasses.replace(query, keys=query.keys[:i] + [tree] + query.keys[i + 1 :])
    if query.where is not None:
        for tree in shrinks(query.where, True):
            yield dataclasses.replace(query, where=tree)


def shrinks(tree, keep_root):
    """Every tree one step smaller: a node gives way to a part of it, or to a column or value of its kind."""
    if not keep_root:
        for node in list(tree.walk())[1:]:
            if node.form is not None:
                yield node
    for node in tree.walk():
        if node.form is None or (node is tree and keep_root):
            continue
        for child in node.children:
            if child.kind == node.kind and child.kind != "choice":
                yield tree.replaced(node, child)
        if node is not tree and node.kind in LITERALS:
            for column in columns().get(node.kind, [])[:2]:
                yield tree.replaced(node, Tree(node.kind, column))
            yield tree.replaced(node, Tree(node.kind, LITERALS[node.kind][0]))
