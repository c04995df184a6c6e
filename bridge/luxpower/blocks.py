"""Which registers to ask for, and in which pieces: learned from what a stick sends, cuts short and refuses.

It begins with groups of 40, which every firmware answers; sticks that send larger blocks unasked are asked for
larger ones. A reply that is cut short splits its piece; a refused piece is halved until what cannot be read is
alone; when both halves are refused, nothing is there. No cut goes through a value of several words.

Source: vendor's "Modbus RTU Protocol" 2025-03-13, chapter 2 items 9 and 10; ant0nkr/luxpower-ha-integration issue 52
(a stick that answers 125 with 80).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.luxpower.rows import Table

GROUP = 40
LARGEST = 120
"""The largest multiple of GROUP that a reply can hold."""


@dataclass(slots=True, eq=False)
class Piece:
    """Registers to be asked for in one request; `due` is the caller's."""

    first: int
    length: int
    due: float = 0.0
    twin: Piece | None = field(default=None, repr=False)
    """The other half of what was refused."""
    refused: bool = False

    @property
    def end(self) -> int:
        return self.first + self.length


class Blocks:
    """The pieces that together hold all rows of one table, for one inverter."""

    def __init__(self, table: Table) -> None:
        self._last = max(row.register + row.read.words for row in table.rows)
        self._inside = {row.register + word for row in table.rows for word in range(1, row.read.words)}
        self._size = GROUP
        self._settled = False
        self.pieces = self._cut(0, self._last)

    def saw(self, length: int) -> None:
        """Learn from a block that came unasked."""
        size = min(length // GROUP * GROUP, LARGEST)
        if size > self._size and not self._settled:
            old, self._size = self.pieces, size
            self.pieces = self._cut(0, self._last)
            for piece in self.pieces:
                piece.due = min(part.due for part in old if piece.first <= part.first < piece.end)

    def shortened(self, piece: Piece, length: int) -> None:
        """Learn that a reply held only so many registers: the rest is asked for by itself."""
        end = piece.first + length
        while end in self._inside and end > piece.first + 1:
            end -= 1
        self._settled = True
        self._replace(piece, Piece(piece.first, end - piece.first, piece.due), Piece(end, piece.end - end))

    def refused(self, piece: Piece) -> None:
        """Learn that the inverter does not answer for all of these registers."""
        self._settled = True
        piece.refused = True
        if piece.twin is not None and piece.twin.refused:
            twin = piece.twin
            self.pieces = [p for p in self.pieces if p is not piece and not twin.first <= p.first < twin.end]
        elif piece.length > GROUP:
            self._size = GROUP
            self._replace(piece, *self._cut(piece.first, piece.end))
        else:
            self._halve(piece)

    def due_now(self, register: int) -> None:
        """Let the piece with this register be asked for next."""
        for piece in self.pieces:
            if piece.first <= register < piece.end:
                piece.due = 0.0

    def all_due(self) -> None:
        """Let everything be asked for anew."""
        for piece in self.pieces:
            piece.due = 0.0

    def _halve(self, piece: Piece) -> None:
        middle = piece.first + piece.length // 2
        while middle in self._inside:
            middle -= 1
        if middle <= piece.first:  # what it begins with is a whole half
            middle = piece.first + 1
            while middle in self._inside:
                middle += 1
        if middle >= piece.end:
            self._replace(piece)
            return
        lower, upper = Piece(piece.first, middle - piece.first), Piece(middle, piece.end - middle)
        lower.twin, upper.twin = upper, lower
        # behind all others, so that both halves have been asked for before a half of them is
        self.pieces = [p for p in self.pieces if p is not piece] + [lower, upper]

    def _replace(self, piece: Piece, *parts: Piece) -> None:
        place = self.pieces.index(piece)
        self.pieces[place : place + 1] = parts

    def _cut(self, first: int, end: int) -> list[Piece]:
        """Return pieces of the size in use; its multiples are borders of groups, and no value crosses those."""
        return [Piece(start, min(self._size, end - start)) for start in range(first, end, self._size)]
