"""Random statements on two engines of one server: whatever both answer must be the same.

`data` writes the tables, `functions` lists what may be called, `generate` makes statements from a seed, `answer` compares
two answers, `reduce` makes a statement that differs small, `run` does all of it on several connections, `explained` says
what can't be equal. `python -m differential --help` is the long run.
"""
