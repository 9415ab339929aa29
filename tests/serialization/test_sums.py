"""Sums and finiteness: what is found, what passes."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.sums import (
    KEY,
    check_tensors,
    check_texts,
    count_not_finite,
    describe_not_finite,
    describe_sums,
    describe_unusable,
    sum_of_tensor,
    sum_of_text,
)

TENSORS = {
    "weight": torch.arange(12.0).reshape(3, 4),
    "steps": torch.tensor(7),
    "none": torch.zeros(0, 3),
    "half": torch.ones(5, dtype=torch.bfloat16),
}


def test_known_values() -> None:
    # CRC-32 of "123456789" is in its definition (ISO 3309): cbf43926.
    assert sum_of_text("123456789") == "cbf43926"
    # One byte: of "torch.uint8 (1,)" and the byte 65, "torch.uint8 (1,)A".
    assert sum_of_tensor(torch.tensor([65], dtype=torch.uint8)) == sum_of_text("torch.uint8 (1,)A")


def test_type_shape_and_order_count() -> None:
    weight = TENSORS["weight"]
    others = [weight.reshape(4, 3), weight.T.contiguous(), weight.flip(0), weight.double(), weight.view(torch.int32)]
    assert len({sum_of_tensor(tensor) for tensor in [weight, *others]}) == 6
    assert sum_of_tensor(weight.T) == sum_of_tensor(weight.T.contiguous()), "of the numbers, not of where they lie"


@given(place=st.integers(0, 3 * 4 * 4 * 8 - 1))
def test_every_single_bit_counts(place: int) -> None:
    raw = TENSORS["weight"].clone().view(torch.uint8)
    raw.view(-1)[place // 8] ^= 1 << place % 8
    changed = {**TENSORS, "weight": raw.view(torch.float32)}
    with pytest.raises(Unreadable, match="1 of 4 tensors are not what was written: weight"):
        check_tensors({KEY: describe_sums(TENSORS, {})}, changed)


def test_names_that_came_or_went() -> None:
    texts = {KEY: describe_sums(TENSORS, {})}
    check_tensors(texts, TENSORS)
    with pytest.raises(Unreadable, match="not what was written: steps"):
        check_tensors(texts, {name: tensor for name, tensor in TENSORS.items() if name != "steps"})
    with pytest.raises(Unreadable, match="not what was written: more"):
        check_tensors(texts, {**TENSORS, "more": torch.ones(1)})


def test_texts() -> None:
    texts = {"a": "1", "b": "2"}
    summed = {**texts, KEY: describe_sums({}, texts)}
    check_texts(summed)
    for changed in ({**summed, "b": "3"}, {name: text for name, text in summed.items() if name != "b"}):
        with pytest.raises(Unreadable, match="its text 'b' is not what was written"):
            check_texts(changed)
    check_texts({**summed, "of another tool": "x"})


def test_a_file_without_sums_passes() -> None:
    check_texts({"a": "1"})
    check_tensors({"a": "1"}, TENSORS)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "{}", '{"algorithm": "crc32"}', '{"algorithm": "crc32", "texts": {}, "tensors": 3}',
             '{"algorithm": "md4", "texts": {}, "tensors": {}}', "[" * 100_000],
)  # fmt: skip
def test_sums_that_cannot_be_read(text: str) -> None:
    with pytest.raises(Unreadable, match="its sums cannot be read"):
        check_texts({KEY: text})


def test_sums_are_json_of_three_parts() -> None:
    assert json.loads(describe_sums({"a": torch.tensor([65], dtype=torch.uint8)}, {"b": "123456789"})) == {
        "algorithm": "crc32",
        "texts": {"b": "cbf43926"},
        "tensors": {"a": sum_of_text("torch.uint8 (1,)A")},
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_counted(dtype: torch.dtype) -> None:
    bad = torch.ones(2, 3, dtype=dtype)
    bad[0, 1], bad[1, 0], bad[1, 2] = torch.nan, torch.inf, -torch.inf
    most = torch.full((3000,), torch.finfo(dtype).max, dtype=dtype)  # finite, though their sum is not
    tensors = {"bad": bad, "most": most, "count": torch.tensor(3), "none": torch.zeros(0, dtype=dtype)}
    assert count_not_finite(tensors) == {"bad": 3}
    assert describe_not_finite(tensors) == "3 of 6 in bad"
    assert describe_not_finite({"most": most}) is None


def test_many_tensors_that_are_not_finite_are_named_in_part() -> None:
    tensors = {f"t{i}": torch.tensor([torch.nan, 1]) for i in range(5)}
    assert describe_not_finite(tensors) == "1 of 2 in t0, 1 of 2 in t1, 1 of 2 in t2, and in 2 more tensors"


def test_variances_below_zero_are_no_variances() -> None:
    bad = {"bn.running_var": torch.tensor([-1e-3, -0.0, 2]), "bn._variance": torch.tensor([-1.0])}
    good = {
        "bn.running_mean": torch.tensor([-1.0]),
        "running_var": torch.tensor(0.0),
        "n_running_var": torch.tensor(-1),
    }
    assert describe_unusable({**good, **bad}) == "variances below 0: 1 of 3 in bn.running_var, 1 of 1 in bn._variance"
    assert describe_unusable(good) is None
    assert describe_unusable({**bad, "w": torch.tensor(torch.nan)}) == (
        "weights that are infinite or not a number: 1 of 1 in w"
    )
