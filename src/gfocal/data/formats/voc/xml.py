"""The XML of one annotation file, as programs write it: encodings, namespaces, capitals and wrappers."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

_DECLARATION = re.compile(r"^\s*<\?xml\s[^>]*\?>")
_DECLARED = re.compile(r"""\s*<\?xml[^>]*?encoding\s*=\s*["']([^"']*)["']""")
_WIDE: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
"""What files begin with whose characters have two bytes or more."""
_MULTIBYTE = re.compile(r"gb|big5|euc|shift|johab|cp9[345]|hz|iso2022")
LOST = "\ufffd"
"""In the place of a character that cannot be read."""
_SIDES = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_CORNER_AND_SIZE = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("cx", "cy", "w", "h"))
_BOXES = tuple(map(frozenset, (*_SIDES, *_CORNER_AND_SIZE)))
"""What tools call the coordinates of a box, as tags or attributes in lower case."""


class XmlError(Exception):
    """The file is no annotation; the message says why, without its name."""


@dataclass(frozen=True)
class Annotation:
    """An annotation file.

    Attributes:
        root: its tags are in lower case and have no namespace.
        encoding: what it is read as where that is not what it declares; None where it is.
        declared: the encoding that it declares; "" where it declares none.
        damaged: characters that could not be read are :data:`LOST`.
    """

    root: Element
    encoding: str | None = None
    declared: str = ""
    damaged: bool = False

    def objects(self) -> list[Element]:
        """Its objects, also those in a wrapper such as ``<objects>``."""
        return list(self.root.iter("object"))

    def strays(self) -> list[Element]:
        """Elements outside of its objects that hold a box, whatever they are called."""
        inside = {element for one in self.objects() for element in one.iter()}
        return [one for one in self.root.iter() if one not in inside and (one.tag == "bndbox" or _holds_box(one))]


def parse_annotation(content: bytes) -> Annotation:
    """Read an annotation file.

    What is valid UTF-8 is read so, whatever the file declares: text in another encoding is hardly ever valid UTF-8 by
    chance. Else the declaration counts. Where that is wrong too, characters outside ASCII are lost.

    Raises:
        XmlError: it is not well-formed, refused for safety, or no annotation.
    """
    text, encoding, declared, damaged = _decode(content)
    try:
        root = fromstring(_DECLARATION.sub("", text, count=1))  # It is decoded: what it declares counts no more.
    except ParseError as error:
        raise XmlError(f"is not well-formed XML: {error}") from None
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise XmlError(f"is refused: {error}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2].lower()
    return Annotation(_annotation(root), encoding, declared, damaged)


def _holds_box(element: Element) -> bool:
    keys = {child.tag for child in element} | {key.lower() for key in element.attrib}
    return any(keys >= names for names in _BOXES) or len(keys & _BOXES[0]) > 1


def _decode(content: bytes) -> tuple[str, str | None, str, bool]:
    """(text, encoding where it is not the declared one, declared encoding, whether characters are lost)."""
    wide = next((name for mark, name in _WIDE if content.startswith(mark)), None)
    if wide is not None:
        try:
            return content.decode(wide).lstrip("\ufeff"), None, wide, False
        except UnicodeDecodeError:
            raise XmlError(f"is not well-formed XML: not {wide.upper()}, as its first bytes say") from None
    found = _DECLARED.match(content[:400].decode("latin-1").removeprefix("\xef\xbb\xbf"))
    declared = found[1] if found else ""
    codec = _codec(declared or "utf-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if codec not in (None, "utf-8", "ascii"):
            try:
                return content.decode(str(codec)), None, declared, False
            except UnicodeDecodeError:
                pass
        return content.decode("utf-8", errors="replace"), "UTF-8", declared, True
    foreign = {letter for letter in text if letter > "\x7f"}
    if not foreign or codec == "utf-8":
        return text, None, declared, False
    if codec is not None and _MULTIBYTE.match(codec) and max(foreign) < "\u0800":
        # A few letters of two bytes may be either: "模" of GBK is "ģ" of UTF-8.
        try:
            return content.decode(codec), None, declared, False
        except UnicodeDecodeError:
            pass
    return text, "UTF-8", declared, False


def _codec(name: str) -> str | None:
    """Python's name of an encoding in which ASCII is itself; None for others and unknown ones."""
    try:
        return codecs.lookup(name).name if b"<?xml".decode(name) == "<?xml" else None
    except (LookupError, ValueError, TypeError, AssertionError):
        return None


def _annotation(root: Element) -> Element:
    """The element that describes the image: the root, or the only one in a wrapper.

    Raises:
        XmlError: there is none, or more than one.
    """
    inside = [one for one in root.iter("annotation") if one is not root and next(one.iter("object"), None) is not None]
    if len(inside) > 1:
        raise XmlError(f"holds {len(inside)} annotations; give each picture a file of its own")
    if inside and root.find("object") is None:
        return inside[0]
    if root.tag != "annotation" and all(root.find(f".//{path}") is None for path in ("object", "bndbox", "size/width")):
        raise XmlError(f"is no VOC annotation: it is a <{root.tag}> without <object> or <size>")
    return root
