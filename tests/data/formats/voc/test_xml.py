"""VOC as programs write it: what is unambiguous is read, the rest is one fault that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfocal.data.formats.open import open_dataset
from gfocal.data.formats.voc.xml import XmlError, parse_annotation
from gfocal.data.index.data_index import DataIndex
from gfocal.data.problems import Problem, Problems
from gfocal.errors import BrokenInputError
from helpers.layouts import CONTENT, boxes_of, image, lay_out, voc_xml

WANTED = {name: boxes for name, (_, boxes) in CONTENT.items()}
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def with_a(root: Path, content: str | bytes) -> Path:
    """A data set in which a.xml, of two objects, is this."""
    lay_out(root, "label_studio_voc")
    (root / "Annotations/a.xml").write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(root: Path) -> tuple[DataIndex, list[str]]:
    problems = Problems(False)
    return open_dataset(root, "train", problems=problems), problems.notes


def faults(root: Path) -> tuple[DataIndex, list[Problem]]:
    found: list[Problem] = []
    index = open_dataset(root, "train", problems=Problems(True, found=found.append))
    with pytest.raises(BrokenInputError):
        open_dataset(root, "train")
    return index, found


def capitals(text: str) -> str:
    """With tags as C# and Java write them."""
    for tag in ("annotation", "filename", "size", "width", "height", "object", "name", "difficult", "bndbox"):
        text = text.replace(f"<{tag}>", f"<{tag.title()}>").replace(f"</{tag}>", f"</{tag.title()}>")
    return text.replace("xmin>", "XMin>").replace("ymin>", "YMIN>").replace("xmax>", "Xmax>")


XML = voc_xml("a.jpg")
FORMS = {
    "a wrapper": XML.replace("<object>", "<objects><object>", 1).replace("</annotation>", "</objects></annotation>"),
    "a wrapper each": XML.replace("<object>", "<item><object>").replace("</object>", "</object></item>"),
    "a root around it": f"<annotations>{XML}</annotations>",
    "a root of another name": XML.replace("<annotation>", "<data>").replace("</annotation>", "</data>"),
    "a namespace": XML.replace("<annotation>", '<annotation xmlns="http://example.org/voc">'),
    "a prefix": XML.replace("<annotation>", '<annotation xmlns:v="u">')
    .replace("<object>", "<v:object>")
    .replace("</object>", "</v:object>")
    .replace("bndbox>", "v:bndbox>")
    .replace("</v:bndbox", "</v:bndbox")
    .replace("<name>", "<v:name>")
    .replace("</name>", "</v:name>"),
    "capitals": capitals(XML),
    "all capitals": XML.replace("object>", "OBJECT>").replace("bndbox>", "BNDBOX>").replace("name>", "NAME>"),
    "comments and blanks": "\n \n" + XML.replace("<object>", "<!-- one -->\n<object>"),
    "a comment in a name": XML.replace("<name>cat</name>", "<name><!-- x -->cat</name>"),
    "blank lines before the declaration": f'\n<?xml version="1.0"?>\n{XML}',
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_mean_the_same(tmp_path: Path, form: str) -> None:
    index, notes = read(with_a(tmp_path, FORMS[form]))
    assert boxes_of(index) == WANTED
    assert (index.names, notes) == (("cat", "dog"), [])


def test_more_than_one_box_of_an_object(tmp_path: Path) -> None:
    twice = XML.replace("</bndbox>", "</bndbox>" + BOX.format(1, 2, 3, 4), 1)
    index, notes = read(with_a(tmp_path, twice))
    assert boxes_of(index)["a.jpg"] == [("cat", (4, 6, 20, 18)), ("cat", (1, 2, 3, 4)), ("dog", (10, 3, 40, 30))]
    assert len(notes) == 1
    assert "1 object with more than one bndbox: each bndbox is read as an object of that name" in notes[0]


def test_the_box_of_a_part_is_no_object(tmp_path: Path) -> None:
    part = f"<part><name>head</name>{BOX.format(5, 7, 9, 9)}</part>"
    index, notes = read(with_a(tmp_path, XML.replace("</object>", f"{part}</object>", 1)))
    assert (boxes_of(index), index.names, notes) == (WANTED, ("cat", "dog"), [])


@pytest.mark.parametrize(
    ("content", "message", "left"),
    [
        (XML.replace("</bndbox>", "</bndbox>" + BOX.format(9, 2, 3, 4), 1), r"object 1 \(cat\), bndbox 2: .*neg", 2),
        (XML.replace("<xmin>4<", "<xmin>4</xmin><xmin>5<"), r"object 1 \(cat\): bndbox has more than one xmin", 1),
        (XML.replace("<name>cat<", "<name>cat</name><name>dog<"), "object 1: has more than one name: 'cat', 'dog'", 1),
        (XML.replace("</annotation>", BOX.format(1, 2, 3, 4) + "</annotation>"), "1 bndbox in no <object>", 2),
        (XML.replace("object>", "item>"), "2 bndboxes in no <object>, so nothing says of which class", 0),
        *(
            (XML.replace("object>", "item>").replace("bndbox>", f"{box}>"), rf"2 boxes \(<{box}>\) in no <object>", 0)
            for box in ("box", "rect")
        ),
        (XML.replace("</annotation>", '<i><b X="1" y="2" w="3" h="4"/></i></annotation>'), r"1 box \(<b>\) in no", 2),
        (XML.replace("</annotation>", "<xmin>1</xmin><xmax>3</xmax></annotation>"), r"1 box \(<annotation>\) in no", 2),
        (f"<annotations>{XML}{XML}</annotations>", "holds 2 annotations; give each picture a file of its own", None),
        ("<html><body/></html>", "is no VOC annotation: it is a <html> without <object> or <size>", None),
        (
            "<annotations><meta><size>3</size></meta><image><box/></image></annotations>",
            "is no VOC annot",
            None,
        ),  # CVAT
        (XML.replace("<object>", "<v:object>"), "is not well-formed XML: unbound prefix", None),
    ],
)
def test_what_is_unclear_is_a_fault(tmp_path: Path, content: str, message: str, left: int | None) -> None:
    root = with_a(tmp_path, content)
    index, found = faults(root)
    with pytest.raises(BrokenInputError, match=message):
        open_dataset(root, "train")
    assert {problem.file for problem in found} == {root / "Annotations/a.xml"}
    assert all(problem.kind == "record-broken" or "neg" in message for problem in found)
    boxes = boxes_of(index)
    assert boxes.pop("a.jpg", None) == (None if left is None else WANTED["a.jpg"][2 - left :])
    assert boxes == {name: own for name, own in WANTED.items() if name != "a.jpg"}


def named(name: str, encoding: str | None) -> str:
    head = "" if encoding is None else f'<?xml version="1.0" encoding="{encoding}"?>\n'
    return head + XML.replace("<name>cat<", f"<name>{name}<")


@pytest.mark.parametrize(
    ("name", "declared", "written", "noted"),
    [
        ("猫", "gb2312", "gb2312", False),  # no encoding of expat's, and none of one byte
        ("猫", "GBK", "gbk", False),
        ("貓", "big5", "big5", False),
        ("ねこ", "Shift_JIS", "shift_jis", False),
        ("Кот", "windows-1251", "cp1251", False),
        ("Bär", "ISO-8859-1", "latin-1", False),
        ("Bär", "utf-8", "utf-8-sig", False),
        ("猫", "utf-16", "utf-16", False),
        ("猫", None, "utf-16", False),
        ("猫", None, "utf-16-le", False),
        ("猫", "utf-32", "utf-32", False),
        ("Bär", "utf8mb4", "utf-8", True),  # unknown
        ("Bär", "unicode", "utf-8", True),
        ("Bär", "hex", "utf-8", True),  # of Python's, and no encoding of text
        ("Bär", "ISO-8859-1", "utf-8", True),  # another one
        ("Bär", "utf-16", "utf-8", True),  # as .NET writes strings into files
        ("猫", "gbk", "utf-8", True),
        ("cat", "utf8mb4", "ascii", False),
        ("cat", "utf-16", "ascii", False),
        ("cat", "", "ascii", False),
    ],
)
def test_encodings(tmp_path: Path, name: str, declared: str | None, written: str, noted: bool) -> None:
    index, notes = read(with_a(tmp_path, named(name, declared).encode(written)))
    assert boxes_of(index)["a.jpg"][0] == (name, (4, 6, 20, 18))
    assert index.names == tuple(sorted([name, "dog"]))
    assert len(notes) == noted
    if noted:
        assert (
            f"1 XML file not in the declared encoding {declared!r}: read as the UTF-8 that they are (a.xml)" in notes[0]
        )


@pytest.mark.parametrize("declared", ["utf-8", "ascii", "utf8mb4", None])
def test_a_name_in_an_encoding_that_nothing_says_is_a_fault(tmp_path: Path, declared: str | None) -> None:
    root = with_a(tmp_path, named("Bär", declared).encode("latin-1"))
    index, found = faults(root)
    assert boxes_of(index)["a.jpg"] == WANTED["a.jpg"][1:]
    assert index.names == ("dog",)
    (problem,) = found
    assert "object 1: its name 'B\ufffdr' has letters that cannot be read" in problem.message
    assert (declared or "which XML is by default") in problem.message
    assert problem.message.endswith("save it as UTF-8")


def test_other_letters_that_cannot_be_read_lose_no_box(tmp_path: Path) -> None:
    """LabelImg writes the path of the person's folder."""
    text = XML.replace("<folder>x<", "<folder>C:\\Müller<")
    index, notes = read(with_a(tmp_path, text.encode("cp1252")))
    assert boxes_of(index) == WANTED
    assert "not in UTF-8, and without a declaration: letters outside ASCII are lost, boxes are read (a.xml)" in notes[0]


def test_the_number_of_files_is_told_once(tmp_path: Path) -> None:
    root = with_a(tmp_path, named("Bär", "latin-1"))
    for i in range(5):
        image(root / f"images/{i}.jpg", (40, 30))
        (root / f"Annotations/{i}.xml").write_text(named("Bär", "latin-1"), encoding="utf-8")
    (note,) = read(root)[1]
    assert "6 XML files not in the declared encoding 'latin-1'" in note
    assert note.endswith("(0.xml, 1.xml, 2.xml, ... (6 in all))")


def test_what_expat_alone_would_read_wrongly() -> None:
    found = parse_annotation('<?xml version="1.0" encoding="latin-1"?><annotation><object/>ü</annotation>'.encode())
    assert (found.encoding, found.damaged, len(found.objects())) == ("UTF-8", False, 1)
    # "模" is valid UTF-8 by chance: two bytes, which the declaration decides.
    text = '<?xml version="1.0" encoding="gbk"?><annotation><object><name>模</name></object></annotation>'
    assert parse_annotation(text.encode("gbk")).root.findtext("object/name") == "模"
    with pytest.raises(XmlError, match="not UTF-16, as its first bytes say"):
        parse_annotation(b"\xff\xfe<")
