"""A question to the person at the terminal."""

from __future__ import annotations

import sys


def agreed(question: str) -> bool:
    """Ask, and return whether the answer is yes; an end of the input (Ctrl-D) is none.

    The question is no part of the output, which may go to a file or another program: a person must see it all the same.
    """
    print(f"{question} Type yes: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.removesuffix("\n") == "yes"
