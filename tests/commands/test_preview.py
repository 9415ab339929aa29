"""The sheet shows the images of the run with the boxes that are learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gfocal.cli.app import app
from gfocal.commands import preview
from gfocal.commands.preview import draw_preview
from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from
from gfocal.errors import UsageError
from gfocal.images.from_recipe import resize_of
from gfocal.structures import Detections
from helpers.small_runs import small


def test_it_shows_what_training_sees(
    scenes: Path, train_index: DataIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[torch.Tensor, Detections]] = []
    draw = preview.draw
    monkeypatch.setattr(preview, "draw", lambda image, found: shown.append((image, found)) or draw(image, found))
    recipe = small("data.mosaic=0.5", "data.mosaic_until=1", "data.repeat_threshold=0.9")
    out = tmp_path / "new" / "sheet.png"
    result = draw_preview(scenes, recipe, out, count=6, epoch=1)
    assert result["pictures"] == 6
    run = list(batches_from(recipe, train_index, resize_of(recipe), 4, 4, False))
    images = torch.cat([batch.images for batch in run])[:6]
    targets = [t for batch in run for t in batch.targets][:6]
    for (image, found), expected, own in zip(shown, images, targets, strict=True):
        assert torch.equal(image, expected)
        assert torch.equal(found.boxes, own.boxes)
        assert found.names == train_index.names
    assert result["boxes"] == sum(map(len, targets))
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 2 * sheet.height * 0.9, "two rows of four"


def test_sizes_vary_and_an_epoch_is_all_there_is(scenes: Path, tmp_path: Path) -> None:
    result = draw_preview(scenes, small("data.multi_scale=[0.5,1.5]"), tmp_path / "a.jpg", count=50)
    assert result["pictures"] == 12
    assert set(result["sizes"]) == {(32, 32), (64, 64), (96, 96)}


def test_wrong_use(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--epoch must be at most schedule\.epochs=2, got 3"):
        draw_preview(scenes, small(), tmp_path / "a.jpg", epoch=2)
    with pytest.raises(UsageError, match=r"--out must be a picture file \(.jpg, .*a\.pdf"):
        draw_preview(scenes, small(), tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_command(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.jpg"
    words = ["data", "preview", str(scenes), "-n", "2", "--set", "data.resize.size=64", "--set", "data.workers=0"]
    result = CliRunner().invoke(app, [*words, "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{out}: 2 pictures, ")
    assert out.is_file()
    refused = CliRunner().invoke(app, ["data", "preview", str(tmp_path / "none"), "-o", str(out)])
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output
