"""Files that are wrong or hostile: one message, nothing read beside them, nothing of them run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gfocal.errors import UsageError
from gfocal.exported.detector import ExportedDetector
from gfocal.exported.open import is_exported, open_exported
from helpers.made_exports import INFO, graph, save


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        open_exported(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_right_file_runs(tmp_path: Path) -> None:
    detector = open_exported(save(tmp_path, graph(), INFO.to_text()))
    assert isinstance(detector, ExportedDetector)
    assert detector.predict(np.zeros((40, 40, 3), np.uint8)).boxes.tolist() == [[0, 0, 32, 32]]


def test_a_truncated_file(tmp_path: Path) -> None:
    file = save(tmp_path, graph(), INFO.to_text())
    file.write_bytes(file.read_bytes()[:-40])
    assert "is damaged" in refused(file)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x00" * 1000])
def test_no_onnx_at_all(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    refused(file)


def test_another_project_s_file(tmp_path: Path) -> None:
    assert "another program wrote it" in refused(save(tmp_path, graph()))


def test_other_inputs_than_it_says(tmp_path: Path) -> None:
    assert "was changed after it was exported" in refused(save(tmp_path, graph(inputs=("x", "y")), INFO.to_text()))


def test_weights_in_another_file_are_not_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    assert "keeps weights in other files" in refused(save(inner, graph(external=True), INFO.to_text()))


def test_an_opset_of_the_future(tmp_path: Path) -> None:
    model = graph()
    model.opset_import[0].version = 999
    assert "--opset" in refused(save(tmp_path, model, INFO.to_text()))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no exported file" in refused(tmp_path / "model.onnx")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run!",)


@pytest.mark.parametrize("kind", ["empty", "text", "zip", "pickle", "state"])
def test_pt2_files_of_other_kinds(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pt2"
    if kind in ("empty", "text"):
        file.write_bytes(b"" if kind == "empty" else b"not an archive")
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.txt", "a")
    else:
        torch.save(Evil() if kind == "pickle" else {"a": torch.zeros(1)}, file)
    refused(file)
    assert capsys.readouterr().out == ""


def test_a_pt2_file_with_our_text_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("model/extra/gfocal", INFO.to_text())
    file.write_bytes(content.getvalue())
    assert "is damaged" in refused(file)


def test_files_are_known_by_their_endings() -> None:
    assert [is_exported(name) for name in ("a.onnx", Path("a.PT2"), "a.pt", "runs/a", 3)] == [True, True] + [False] * 3
