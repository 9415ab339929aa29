"""What is wrong with a data set, and what to do about it: stop at the first fault, or collect all of them.

Readers report every fault here and never decide themselves. A strict run raises, ``--skip-broken`` leaves the record
out and lists it, ``gfocal data check`` collects everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.kinds import Kind
from gfocal.errors import BrokenInputError


@dataclass(frozen=True)
class Problem:
    """One fault.

    Attributes:
        kind: what is wrong, the same for all formats.
        file: the file to be corrected: an annotation file, a label file or an image.
        message: what is wrong there, without the name of the file.
        image: file name of the image concerned, as the data set writes it; None where it is none.
    """

    kind: Kind
    file: Path
    message: str
    image: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


class Problems:
    """Raises what is broken, or with ``skip`` collects it.

    Args:
        skip: False raises at the first fault.
        found: called with each fault that is skipped.
        unread: takes a line for each kind of thing in the files that no reader keeps, such as masks: whoever writes the
            data again loses it. None: nobody asks, and it is not counted.
    """

    def __init__(
        self, skip: bool, found: Callable[[Problem], None] | None = None, unread: list[str] | None = None
    ) -> None:
        self.skip, self.found = skip, found
        self.unread = unread
        self.lines: list[str] = []
        self.left_out: set[int] = set()  # Ids of images: their annotations go with them and are no problem.
        self.archives: dict[Path, Path] = {}  # By folder of the cache, the archive that a person has instead.
        self.notes: list[str] = []  # What is no fault, but should be known: how something was understood.

    def note(self, line: str) -> None:
        """Something that a person should know of how the data are read; said once."""
        line = self._as_given(line)
        if line not in self.notes:
            self.notes.append(line)

    def lose(self, file: Path, what: str) -> None:
        """Something that stands in a file, is not kept, and so cannot be written again."""
        if self.unread is not None:
            self.unread.append(f"{file.name}: {what} are not read")

    def report(
        self, kind: Kind, file: Path, message: str, *, image: str | None = None, hint: str = "correct it"
    ) -> None:
        """A record that cannot be used; whoever reports it leaves it out.

        Raises:
            BrokenInputError: unless faults are skipped; the message ends with what to do.
        """
        message = self._as_given(message)
        problem = Problem(kind, file, message, image)
        if not self.skip:
            text = self._as_given(f"{problem}; {hint}, or leave it out with --skip-broken")
            raise BrokenInputError(text, file, message)
        self.lines.append(self._as_given(str(problem)))
        if self.found is not None:
            self.found(problem)

    def remark(self, kind: Kind, file: Path, message: str, *, image: str | None = None) -> None:
        """A record that is odd and used all the same; only a collector of everything gets it."""
        if self.found is not None:
            self.found(Problem(kind, file, self._as_given(message), image))

    def _as_given(self, text: str) -> str:
        """With the archive's name where a file of its unpacked copy is named: nothing is to be changed there."""
        for folder, archive in self.archives.items():
            text = text.replace(str(folder), str(archive))
        return text
