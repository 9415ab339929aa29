"""How much a file of tensors may ask for before anything of it is built; far beyond what real ones have.

A file of a few bytes can name shapes, texts and records of any size. What follows the file's own size is not bounded
here: a large file may hold large tensors.
"""

from __future__ import annotations

HEADER = 16 * 2**20
"""Bytes of a safetensors header. That of ``gfl_r50`` has 61,448."""
PROGRAM = 32 * 2**20
"""Bytes of a zip file's pickle. The state of ``gfl_r50`` with AdamW and averaged weights has 151,596."""
OPCODES = 3_000_000
"""Steps of a pickle: each can make an object of 60 bytes or more. The same state has 44,294."""
DIRECTORY = 16 * 2**20
"""Bytes of the directory of a zip file: an entry takes 50 or more. The same state has 84,847, of 1,364 entries."""
DIMENSION = 2**31
"""Product of a tensor's dimensions other than 0, where one of them is 0: such a tensor takes no room in the file."""
GRAPH = 32 * 2**20
"""Bytes of an ONNX file, whose messages take eighty times their size once they are read. The largest PicoDet has 23
million."""
SHARED = 4
"""Times a file's size that its tensors may take together: several may lie on the same numbers."""


class Unreadable(ValueError):
    """Why a file cannot be read, in words."""


def check_at_most(count: int, most: int, what: str) -> None:
    """Refuse what is over a bound; ``what`` says with {} in it what there is so many of.

    Raises:
        Unreadable: naming both.
    """
    if count > most:
        raise Unreadable(f"{what.format(f'{count:,}')}, and at most {most:,} are read")
