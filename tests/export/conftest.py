"""What the slow tests of pages and examples share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfocal.export.web.runtime import NAME, VERSION
from helpers.javascript import npm


@pytest.fixture(scope="session")
def web_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """onnxruntime-web as npm packs it."""
    folder = tmp_path_factory.mktemp("npm")
    npm(folder, "pack", "--silent", f"{NAME}@{VERSION}")
    return folder / f"{NAME}-{VERSION}.tgz"


@pytest.fixture(scope="session")
def nanodet(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published detector, NanoDet-m for images of 320 x 320 pixels."""
    from gfocal.interop.load import import_weights

    folder = tmp_path_factory.mktemp("weights") / "nanodet_m"
    import_weights(shared / "weights" / "nanodet_m.ckpt", folder)
    return folder


@pytest.fixture(scope="session")
def nanodet_page(nanodet: Path, web_package: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its page."""
    from gfocal.commands.export.export import export_files

    folder = tmp_path_factory.mktemp("pages") / "nanodet_m"
    report = export_files(
        str(nanodet), format="web", out=folder, runtime=web_package, data=shared / "data" / "coco_mini", samples=4
    )
    assert report.proof.holds
    return folder
