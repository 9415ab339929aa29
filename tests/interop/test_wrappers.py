"""What training wraps a detector in: the same tensors come out, and the notes say which were taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfocal.interop.wrappers import read_wrapped, unwrap
from gfocal.serialization.torch_files import Checkpoint

NAMES = ("backbone.layer1.0.conv1.weight", "neck.lateral_convs.0.conv.weight", "bbox_head.gfl_cls.weight")
PLAIN = {name: torch.full((2,), float(i)) for i, name in enumerate(NAMES)}
AVERAGED = {name: tensor + 10 for name, tensor in PLAIN.items()}


def under(prefix: str, state: Mapping[str, Tensor] = PLAIN) -> dict[str, object]:
    return {prefix + name: tensor for name, tensor in state.items()}


def unwrapped(state: Mapping[str, object], **more: object) -> Checkpoint:
    return unwrap(Checkpoint(dict(state), {}, **more))  # type: ignore[arg-type]


def is_set(found: Mapping[str, object], expected: Mapping[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[n], expected[n]) for n in expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.module.", "module.model.",
     "model._orig_mod.", "student.", "module.student.", "module.module."],
)  # fmt: skip
def test_one_set_of_weights_under_any_prefix(prefix: str) -> None:
    read = unwrapped(under(prefix))
    assert is_set(read.state, PLAIN)
    words = [word for word in ("module.", "_orig_mod.", "model.", "student.") if word in prefix]
    assert read.notes == ((f"names are read without {', '.join(words)}",) if words else ())


def test_parts_that_were_compiled() -> None:
    names = {name.replace(".", "._orig_mod.", 1): tensor for name, tensor in PLAIN.items()}
    assert is_set(unwrapped(names).state, PLAIN)


@pytest.mark.parametrize(
    ("prefix", "averaged"),
    [*((word, word) for word in ("teacher.", "avg_model.", "ema_model.", "model_ema.", "ema.", "ema_")),
     ("ema.module.", "ema."), ("ema_module.", "ema_")],
)  # fmt: skip
@pytest.mark.parametrize("plain", ["", "model.", "student."])
def test_averaged_weights_go_before_plain_ones(prefix: str, averaged: str, plain: str) -> None:
    read = unwrapped({**under(plain), **under(prefix, AVERAGED)})
    assert is_set(read.state, AVERAGED)
    wrapped = ("names are read without module.",) if "module." in prefix else ()
    assert read.notes == (
        *wrapped,
        f"the averaged weights are taken, under {averaged}; left out: those under {plain or 'no prefix'}",
    )
    assert unwrapped(under(prefix, AVERAGED)).notes == (*wrapped, f"the averaged weights are taken, under {averaged}")


def test_a_teacher_that_is_another_network_is_left_out() -> None:
    larger = {**PLAIN, NAMES[0]: torch.zeros(3)}
    read = unwrapped({**under(""), **under("teacher.", larger)})
    assert is_set(read.state, PLAIN)
    assert read.notes == ("the plain weights are taken, under no prefix; left out: those under teacher.",)


def test_a_count_of_averages_is_no_weight() -> None:
    assert is_set(unwrapped({"n_averaged": torch.tensor(5), **under("module.")}).state, PLAIN)


def test_what_stands_beside_a_detector_stays_to_be_refused() -> None:
    for prefix in ("", "model."):
        read = unwrapped({**under(prefix), "loss.weight": torch.ones(1)})
        assert set(read.state) == {*NAMES, "loss.weight"}


EMA = {f"ema_{name.replace('.', '_')}": tensor for name, tensor in AVERAGED.items()}


@pytest.mark.parametrize(
    ("hook", "taken"),
    [
        ("dict(type='ExpMomentumEMAHook', priority=49)", "the averaged weights are taken, as"),
        ("dict(type='EMAHook', priority='ABOVE_NORMAL')", "the averaged weights are taken, as"),
        ("dict(type='EMAHook')", "the plain weights are taken, as"),  # NORMAL: after the file is written
        ("dict(type='EMAHook', priority=50)", "the plain weights are taken, as"),
        ("dict(type='NumClassCheckHook')", "the weights under the plain names are taken"),
    ],
)
def test_copies_of_mmcvs_hook(hook: str, taken: str) -> None:
    read = unwrap(Checkpoint({**under("module."), **EMA}, {"config": f"custom_hooks = [{hook}]"}))
    assert is_set(read.state, PLAIN)
    note, prefix = read.notes
    assert prefix == "names are read without module."
    assert note.startswith(taken)
    assert note.endswith("3 tensors ema_... are left out")


def test_a_copy_of_nothing_stays_to_be_refused() -> None:
    assert set(unwrapped({**PLAIN, "ema_backbone_other": torch.ones(1)}).state) == {*NAMES, "ema_backbone_other"}


def test_containers() -> None:
    assert "under state_dict_ema" in unwrapped(PLAIN, container="state_dict_ema").notes[0]
    (note,) = unwrapped(PLAIN, container="state_dict", others=("ema_state_dict", "optimizer")).notes
    assert note.startswith("the averaged weights are taken: mmengine writes them under state_dict")
    assert unwrapped(PLAIN, container="state_dict", others=("optimizer",)).notes == ()


@pytest.mark.parametrize(
    ("beside", "taken", "words"),
    [
        ({}, AVERAGED, "the weights under ema_state_dict are taken, the only ones"),
        ({"optimizer": {}, "epoch": 3}, AVERAGED, "the weights under ema_state_dict are taken, the only ones"),
        ({"state_dict": PLAIN}, PLAIN, "mmengine writes them under state_dict"),
        ({"state_dict_ema": PLAIN}, PLAIN, "under state_dict_ema"),
    ],
)
def test_a_file_of_averaged_weights(
    tmp_path: Path, beside: Mapping[str, object], taken: Mapping[str, Tensor], words: str
) -> None:
    averaged = {**under("module.", AVERAGED), "steps": torch.tensor(7)}
    torch.save({"ema_state_dict": averaged, **beside}, tmp_path / "w.pth")
    read = read_wrapped(tmp_path / "w.pth")
    assert is_set(read.state, taken)
    assert words in read.notes[0]


@pytest.mark.parametrize("state", [{}, {"a": torch.ones(1)}, {"model": 3}, {"ema_x": 1, "teacher.": 2, "module.": 3}])
def test_what_is_no_detector_passes(state: dict[str, object]) -> None:
    assert len(unwrapped(state).state) == len(state)
