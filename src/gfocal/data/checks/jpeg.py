"""Whether a JPEG file holds all of its image.

Decoders stop at a file that ends too early. One that was cut off and closed again with an end marker (cameras that lose
power, downloads that were "repaired") they read without a word: what is missing becomes grey, or blurred where the file
is progressive.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from gfocal.images.decode import open_with_pillow

_END, _SCAN, _PROGRESSIVE, _BASELINE = 0xD9, 0xDA, 0xC2, (0xC0, 0xC1)
# Read as Huffman codes this is noise, whatever the tables; no 0xFF, which would be a marker.
_NOISE = bytes((37 * i * i + 101 * i + 13) % 251 for i in range(600))
_CORNER = 8  # pixels: the last block of an image


def is_cut_off(data: bytes, image: Tensor) -> bool:
    """Whether the coded data end before the image does, although the file has an end marker.

    Bytes put before the end marker change the image only if the decoder still waits for data. Baseline files are
    decoded again only where their last block is of one colour, as it is where it is missing.

    Args:
        data: a JPEG file that decodes.
        image: (3, H, W) uint8, decoded with its EXIF orientation ignored.
    """
    end = data.rfind(bytes((0xFF, _END)))
    frames = [code for code, _ in _segments(data)]
    progressive = _PROGRESSIVE in frames
    if end < 0 or not (progressive or any(code in frames for code in _BASELINE)):
        return False  # Arithmetic or lossless coding: rare, and noise is another matter there.
    if progressive and _lacks_scans(data):
        return True
    corner = image[:, -_CORNER:, -_CORNER:].flatten(1)
    if not progressive and bool((corner != corner[:, :1]).any()):
        return False
    return _decoded(data) != _decoded(data[:end] + _NOISE + data[end:])


def _decoded(data: bytes) -> bytes:
    # Not torchvision's decoder, which prints a line about such bytes.
    with open_with_pillow(data) as image:
        return image.tobytes()


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment; the coded data between scans are jumped over."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] in (0x00, 0xFF) or 0xD0 <= data[at + 1] <= 0xD7:
            following = data.find(b"\xff", at + 1)
            if following < 0:
                return
            at = following
            continue
        code = data[at + 1]
        if code == _END:
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield code, data[at + 4 : at + 2 + length]
        at += 2 + length


def _lacks_scans(data: bytes) -> bool:
    """Whether a progressive file ends before every coefficient of every component has all its bits."""
    components: list[int] = []
    whole: set[tuple[int, int]] = set()  # (component, coefficient)
    for code, content in _segments(data):
        if code == _PROGRESSIVE and len(content) > 6:
            components = [content[6 + 3 * i] for i in range(content[5]) if 6 + 3 * i < len(content)]
        elif code == _SCAN and content:
            count = content[0]
            if len(content) < 4 + 2 * count or content[3 + 2 * count] & 0x0F:
                continue  # A scan whose lowest bits come later.
            first, last = content[1 + 2 * count], content[2 + 2 * count]
            whole |= {(content[1 + 2 * i], k) for i in range(count) for k in range(first, min(last, 63) + 1)}
    return any((component, k) not in whole for component in components for k in range(64))
