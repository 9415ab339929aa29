"""What `gfocal train auto` chooses, on a machine whose pace is made up."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gfocal.auto import candidates, choose
from gfocal.auto.candidates import CANDIDATES, choose_begin, network_of
from gfocal.auto.choose import Chosen
from gfocal.auto.facts import DataFacts
from gfocal.auto.known import EPOCHS, MINUTES
from gfocal.auto.rate import FEW
from gfocal.auto.size import SEEN, SHORT_SIDES, SIZES
from gfocal.auto.weights import hosts_of
from gfocal.catalogue.entries import Published, find
from gfocal.catalogue.web import CannotFetch, CutOff
from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe, load_recipe
from gfocal.runs.checkpoint import BEST, save_detector
from gfocal.runtime.memory import largest_size
from gfocal.training.optimizer import idle_settings
from gfocal.training.step_plan import StepPlan
from gfocal.zoo import build_detector


def said(line: str) -> None:
    pass


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")


@pytest.fixture
def chosen_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Chosen]:
    """What is chosen where an image of 320 pixels takes so many seconds."""

    def at(seconds: float, index: DataIndex, *given: str, init: Path | None = None) -> Chosen:
        def pace(recipe: Recipe, classes: int) -> float:
            return seconds * math.prod(largest_size(recipe.data)) / 320**2

        monkeypatch.setattr(choose, "seconds_per_image", pace)
        monkeypatch.setattr(choose, "_REACH_IMAGES", 50)  # they are all alike here
        return choose.choose(index, given=given, init=init, say=said)

    return at


def index_of(images: int, boxes: list[list[float]], side: int = 400, names: tuple[str, ...] = ("thing",)) -> DataIndex:
    """Images of one size that all show the same, things of the first class."""
    return DataIndex.build(
        images_dir=Path("images"),
        annotations=Path("train.json"),
        image_ids=range(images),
        file_names=[f"{i}.jpg" for i in range(images)],
        widths=[side] * images,
        heights=[side // 2] * images,
        box_start=[len(boxes) * i for i in range(images + 1)],
        boxes=boxes * images,
        labels=[0] * (len(boxes) * images),
        names=list(names),
    )


def test_facts_by_hand() -> None:
    facts = DataFacts.of(index_of(3, [[0, 0, 40, 20], [0, 0, 400, 200], [10, 10, 410, 60]]))
    assert (facts.images, facts.objects, facts.classes, facts.longer_side, facts.largest) == (3, 9, 1, 400, 3)
    assert facts.shorter_side == 200
    # Sides as shares: 0.1, 1, and of what is inside the image sqrt(390 / 400 * 50 / 200); a tenth of nine lies between.
    assert facts.small_share == pytest.approx(0.1)


def test_without_an_object_nothing_is_chosen() -> None:
    with pytest.raises(UsageError, match=r"train\.json has no object to learn"):
        DataFacts.of(index_of(3, []))


def test_the_time_decides_the_size(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(200, [[0, 0, 100, 100]], 640)
    sizes = [chosen_at(pace, index).recipe.data.resize.size for pace in (1, 0.1, 0.05, 0.01)]
    assert sizes == sorted(sizes)
    assert sizes[0] == SIZES[0]
    assert sizes[-1] == 640


def test_images_are_not_enlarged(chosen_at: Callable[..., Chosen]) -> None:
    assert chosen_at(0.001, index_of(200, [[0, 0, 100, 100]], 400)).recipe.data.resize.size == 416


def test_few_images_are_not_shown_without_end(chosen_at: Callable[..., Chosen]) -> None:
    recipe = chosen_at(0.01, index_of(30, [[0, 0, 100, 100]])).recipe
    assert (recipe.schedule.epochs, recipe.schedule.minutes) == (EPOCHS[1], None)


def test_a_typed_time_stays_the_most_that_a_run_takes(chosen_at: Callable[..., Chosen]) -> None:
    """60 epochs of 30 images would take 18 s at this pace, if it were right; the run has its own clock."""
    chosen = chosen_at(0.01, index_of(30, [[0, 0, 100, 100]]), "schedule.minutes=2")
    assert (chosen.recipe.schedule.minutes, chosen.recipe.schedule.most_epochs) == (2, EPOCHS[1])
    assert any(line.startswith("60 epochs, in 2 minutes at most") for line in chosen.reasons)


def test_a_typed_time_that_is_none_gives_epochs(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(4000, [[0, 0, 100, 100]])
    schedule = chosen_at(0.02, index, "schedule.minutes=null").recipe.schedule
    assert schedule.minutes is None
    assert 1 <= schedule.epochs < EPOCHS[1]
    # Short epochs that are typed stay, and are counted as they are.
    schedule = chosen_at(0.02, index, "schedule.epoch_steps=5").recipe.schedule
    assert (schedule.minutes, schedule.epoch_steps, schedule.epochs) == (None, 5, EPOCHS[1])


def test_a_typed_most_stays(chosen_at: Callable[..., Chosen]) -> None:
    given = ("schedule.minutes=2", "schedule.most_epochs=7")
    assert chosen_at(0.01, index_of(30, [[0, 0, 100, 100]]), *given).recipe.schedule.most_epochs == 7


def test_the_pace_is_that_of_the_batches_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def pace(recipe: Recipe, classes: int) -> float:
        batches.append(recipe.schedule.batch_size)
        return 0.01

    monkeypatch.setattr(choose, "seconds_per_image", pace)
    for images in (1, 5, 300):
        chosen = choose.choose(index_of(images, [[0, 0, 100, 100]]), say=said)
        assert chosen.recipe.schedule.batch_size == 16
    assert batches == [1, 5, 16]


@pytest.mark.parametrize("images", [1, 4, 30, pytest.param(700, marks=pytest.mark.slow)])
@pytest.mark.parametrize("epochs", [1, 2, 7, 59, 60, 200])
def test_nothing_lies_beyond_the_end_of_a_run(chosen_at: Callable[..., Chosen], images: int, epochs: int) -> None:
    recipe = chosen_at(0.01, index_of(images, [[0, 0, 100, 100]]), f"schedule.epochs={epochs}").recipe
    assert idle_settings(recipe.schedule, StepPlan.of(recipe.schedule, images).total) == []
    static = load_recipe(CANDIDATES[0].recipe).model.assigner.static_epochs
    assert recipe.model.assigner.static_epochs == (static * epochs // 60 if epochs < 60 else static)


def test_what_is_fitted_is_said_and_what_is_given_stays(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(30, [[0, 0, 100, 100]])
    chosen = chosen_at(0.01, index, "schedule.epochs=24")
    line = "static_epochs 2 instead of 5, warmup_steps 4 instead of 50, since the recipe is made for 60 epochs"
    assert line in chosen.reasons
    given = ("schedule.epochs=24", "model.assigner.static_epochs=5", "schedule.warmup_steps=9")
    chosen = chosen_at(0.01, index, *given)
    assert (chosen.recipe.model.assigner.static_epochs, chosen.recipe.schedule.warmup_steps) == (5, 9)
    assert not any("instead of 50" in reason for reason in chosen.reasons)


def test_a_short_time_leaves_no_epoch_to_a_static_assigner(chosen_at: Callable[..., Chosen]) -> None:
    """Of 12 seconds measuring, validations and saved states leave two."""
    chosen = chosen_at(0.01, index_of(4, [[0, 0, 100, 100]]), "schedule.minutes=0.2")
    assert chosen.recipe.model.assigner.static_epochs == 0
    chosen = chosen_at(0.01, index_of(4, [[0, 0, 100, 100]]), "schedule.minutes=5")
    assert chosen.recipe.model.assigner.static_epochs == 5


def test_milestones_stay_at_their_share_of_the_run(tmp_path: Path, chosen_at: Callable[..., Chosen]) -> None:
    steps = ("schedule.kind=multistep", "schedule.epochs=12", "schedule.milestones=[8, 11]", "model.channels=32")
    run = saved(tmp_path, "gfl_nano", *steps)
    index = index_of(30, [[0, 0, 100, 100]])
    schedule = chosen_at(0.01, index, init=run).recipe.schedule
    assert (schedule.epochs, schedule.milestones) == (EPOCHS[1], (40, 55))
    assert chosen_at(0.01, index, "schedule.epochs=1", init=run).recipe.schedule.milestones == ()
    given = ("schedule.epochs=30", "schedule.milestones=[9]")
    assert chosen_at(0.01, index, *given, init=run).recipe.schedule.milestones == (9,)


def test_epochs_of_tiles_are_counted_in_tiles(chosen_at: Callable[..., Chosen]) -> None:
    """100 images are 5,100 tiles, half of them whole ones' parts: not 60 epochs of 100."""
    index = index_of(100, [[8.0 * i, 0, 8.0 * i + 7, 400] for i in range(100)], 800)
    given = ("data.tile=128", "schedule.minutes=5")
    plain, tiled = chosen_at(0.01, index, given[1]), chosen_at(0.01, index, *given)
    assert any(line.startswith("60 epochs") for line in plain.reasons)
    assert not any(line.startswith("60 epochs") for line in tiled.reasons)


def test_many_images_take_the_time_that_there_is(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(4000, [[0, 0, 100, 100]])
    assert chosen_at(0.02, index).recipe.schedule.minutes == MINUTES
    chosen = chosen_at(0.02, index, "schedule.minutes=40")
    assert chosen.recipe.schedule.minutes == 40
    assert any(line.startswith("40 minutes") for line in chosen.reasons)


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a recipe whose images keep their shape."""
    return saved(tmp_path_factory.mktemp("shaped"), "gfl_nano", "model.channels=32", "data.resize.kind=short_long")


def saved(folder: Path, name: str, *changes: str) -> Path:
    """A run folder with random weights of a recipe for one class, "a"."""
    recipe = load_recipe(name, changes)
    save_detector(folder / BEST, build_detector(recipe, ["a"], pretrained=False).state_dict(), recipe, ["a"])
    return folder


@pytest.mark.parametrize(
    ("images", "names", "given", "rate"),
    [
        (40, ("a",), (), 0.1),
        (40, ("A",), (), 0.1),  # names of one class may differ in case
        (40, ("a", "a placeholder without a box"), (), 0.1),
        (40, ("b", "a"), (), 1),
        (FEW + 1, ("a",), (), 1),
        (40, ("a",), ("optim.lr=0.002",), 2),
    ],
    ids=["known", "another case", "no box of it", "new", "many pictures", "given"],
)
def test_weights_that_know_all_classes_learn_slower_from_few_pictures(
    images: int,
    names: tuple[str, ...],
    given: tuple[str, ...],
    rate: float,
    tmp_path: Path,
    chosen_at: Callable[..., Chosen],
) -> None:
    run = saved(tmp_path, "gfl_nano", "model.channels=32")
    chosen = chosen_at(0.001, index_of(images, [[0, 0, 100, 100]], names=names), *given, init=run)
    assert chosen.recipe.optim.lr == pytest.approx(rate * load_recipe("gfl_nano").optim.lr)
    assert any("know all classes" in line for line in chosen.reasons) == (rate < 1)


def test_published_weights_know_their_classes_before_they_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_begin(None, said).taught == ()  # random values
    are_here(monkeypatch, *CANDIDATES[0].weights)
    assert choose_begin(None, said).taught == COCO_NAMES
    monkeypatch.delenv("GFOCAL_OFFLINE")
    are_here(monkeypatch)
    assert choose_begin("nanodet_m_320_coco", said, fetch=False).taught == COCO_NAMES


def test_images_that_keep_their_shape_get_two_sides(shaped: Path, chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(200, [[0, 0, 100, 100]], 3000)
    shorts = []
    for pace in (1, 0.05, 0.02, 0.001):
        chosen = chosen_at(pace, index, init=shaped)
        resize = chosen.recipe.data.resize
        shorts.append(resize.short_side)
        assert resize.kind == "short_long"
        assert resize.long_side == round(resize.short_side * 1333 / 800)
        words = f"shorter side {resize.short_side} pixels, longer side {resize.long_side} at most"
        assert any(line.startswith(words) for line in chosen.reasons)
    assert shorts == sorted(set(shorts))
    assert (shorts[0], shorts[-1]) == (SHORT_SIDES[0], SHORT_SIDES[-1])


def test_the_time_of_images_that_keep_their_shape_is_that_of_their_pixels(
    shaped: Path, chosen_at: Callable[..., Chosen]
) -> None:
    """256 x 427 pixels are 256 x 448 as they enter: 6,000 of them in 12 minutes, and no larger ones."""
    pace = 60 * 15 * 0.8 / SEEN / (256 * 448 / 320**2)
    index = index_of(100, [[0, 0, 100, 100]], 3000)
    for share, short, words in ((0.99, 256, "the largest"), (1.01, 256, "the smallest")):
        chosen = chosen_at(share * pace, index, init=shaped)
        assert chosen.recipe.data.resize.short_side == short
        assert any(f"at most: {words}" in line for line in chosen.reasons)


def test_images_that_keep_their_shape_are_not_enlarged(shaped: Path, chosen_at: Callable[..., Chosen]) -> None:
    # 300 x 150: at 256 the longer side would be 427, and both are reached.
    assert chosen_at(1e-4, index_of(9, [[0, 0, 50, 50]], 300), init=shaped).recipe.data.resize.short_side == 256
    # 600 x 300: at 320 the longer side is held to 533; 416 shows all of it.
    assert chosen_at(1e-4, index_of(9, [[0, 0, 50, 50]], 600), init=shaped).recipe.data.resize.short_side == 416


@pytest.mark.parametrize("given", ["data.resize.short_side=600", "data.resize.long_side=1000"])
def test_a_side_that_is_given_stays(shaped: Path, chosen_at: Callable[..., Chosen], given: str) -> None:
    resize = chosen_at(0.001, index_of(9, [[0, 0, 50, 50]]), given, init=shaped).recipe.data.resize
    assert (resize.short_side, resize.long_side) in ((600, 1333), (800, 1000))


def test_a_square_side_is_refused_for_images_that_keep_their_shape(
    shaped: Path, chosen_at: Callable[..., Chosen]
) -> None:
    index = index_of(9, [[0, 0, 50, 50]])
    with pytest.raises(UsageError, match=r"--set data\.resize\.short_side=416 --set data\.resize\.long_side=693"):
        chosen_at(0.001, index, "data.resize.size=416", init=shaped)
    given = ("data.resize.kind=square", "data.resize.size=416")
    assert chosen_at(0.001, index, *given, init=shaped).recipe.data.resize.size == 416


def test_a_network_of_one_size_keeps_it(tmp_path: Path, chosen_at: Callable[..., Chosen]) -> None:
    run = saved(tmp_path, "ssd512_vgg16")
    chosen = chosen_at(1, index_of(200, [[0, 0, 100, 100]], 640), init=run)
    assert chosen.recipe.data.resize.size == 512
    assert "512 x 512 pixels: neck ssd takes no other" in chosen.reasons


def test_each_image_is_seen_often_enough(chosen_at: Callable[..., Chosen]) -> None:
    """Of 4,000 images a size at which the time shows SEEN of them would show each one and a half times."""
    pace = 60 * 15 * 0.8 / (1.2 * SEEN)
    assert chosen_at(pace, index_of(300, [[0, 0, 100, 100]])).recipe.data.resize.size == 320
    assert chosen_at(pace, index_of(4000, [[0, 0, 100, 100]])).recipe.data.resize.size == SIZES[0]


VANISHING = "and nothing of that size can be learnt"


def test_objects_that_vanish_are_warned_of(chosen_at: Callable[..., Chosen]) -> None:
    """40 x 20 pixels of 12,000 x 6,000 are 0.85 x 0.85 at 256: of tiles of 896 pixels 8 and more."""
    index = index_of(20, [[100, 100, 140, 120], [0, 0, 6000, 3000]] * 3, 12000)
    chosen = chosen_at(10, index)
    (line,) = [reason for reason in chosen.reasons if VANISHING in reason]
    assert "below 0.9 pixels" in line
    assert "--set data.tile=896, which shows it 8 large" in line
    assert "--minutes" not in line  # 640 x 640 pixels would be too few as well
    tiled = chosen_at(10, index, "data.tile=896")
    assert not any(VANISHING in reason for reason in tiled.reasons)
    assert any("a tenth of the objects is below 8 pixels" in reason for reason in tiled.reasons)


def test_the_warning_names_the_time_in_which_larger_images_are_learnt(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(20, [[10, 10, 16, 16]], 800)  # 6 x 6 of 800 x 400: 2.7 x 2.7 at 256, 4.2 or more from 416 on
    (line,) = [reason for reason in chosen_at(1, index).reasons if VANISHING in reason]
    minutes = math.ceil(SEEN * (416 / 320) ** 2 / 48)
    assert f"or --minutes {minutes} for 416 x 416 pixels" in line
    enough = chosen_at(1, index, f"schedule.minutes={minutes}")
    assert enough.recipe.data.resize.size == 416
    assert not any(VANISHING in reason for reason in enough.reasons)


def test_a_typed_size_is_warned_of_too(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(20, [[10, 10, 16, 16]], 800)
    for size, found in ((128, True), (640, False)):
        reasons = chosen_at(0.01, index, f"data.resize.size={size}").reasons
        assert any(VANISHING in reason for reason in reasons) == found
    # No tile makes one pixel larger than a pixel of the file; nor does any time.
    tiny = chosen_at(0.01, index_of(20, [[10, 10, 11, 11]], 100), "schedule.epochs=3")
    (line,) = [reason for reason in tiny.reasons if VANISHING in reason]
    assert "--minutes" not in line


def test_a_time_that_shows_not_all_images_is_said(chosen_at: Callable[..., Chosen]) -> None:
    index = index_of(4000, [[0, 0, 100, 100]])
    lines = [chosen_at(0.1, index, f"schedule.minutes={minutes}").reasons[1] for minutes in (0.1, 6, 20)]
    minutes = math.ceil(10 * 4000 * 0.1 * 0.64 / 48)
    assert f"75 pictures, not each of the 4,000 once; --minutes {minutes} shows 40,000;" in lines[0]
    assert "4,500 pictures, each once;" in lines[1]
    assert "15,000 pictures, each 4 times;" in lines[2]
    assert "--minutes" not in chosen_at(0.1, index, "schedule.epochs=3").reasons[1]


def test_what_is_given_stays(chosen_at: Callable[..., Chosen]) -> None:
    given = ("data.resize={kind: square, size: 192}", "model.boxes.reg_max=3", "schedule.epochs=7")
    recipe = chosen_at(0.01, index_of(30, [[0, 0, 400, 200]]), *given).recipe
    assert (recipe.data.resize.size, recipe.model.boxes.reg_max, recipe.schedule.epochs) == (192, 3, 7)
    assert recipe.schedule.minutes is None


def test_more_detections_for_full_images(chosen_at: Callable[..., Chosen]) -> None:
    boxes = [[i, 0.0, i + 9, 40] for i in range(130)]
    assert chosen_at(0.01, index_of(20, boxes)).recipe.predict.max_detections == 200
    assert chosen_at(0.01, index_of(20, boxes[:90])).recipe.predict.max_detections == 100


def test_weights_that_are_given_decide_the_network(tmp_path: Path) -> None:
    recipe = load_recipe("gfl_nano", ["model.boxes.reg_max=9"])
    save_detector(tmp_path / BEST, build_detector(recipe, ["a"], pretrained=False).state_dict(), recipe, ["a"])
    begin = choose_begin(tmp_path, said)
    assert (begin.base, begin.init) == ("gfl_nano", str(tmp_path))


def test_the_bins_of_the_weights_stay(tmp_path: Path, chosen_at: Callable[..., Chosen]) -> None:
    """A recipe of fewer bins than the weights would throw trained ones away."""
    recipe = load_recipe("gfl_nano", ["model.boxes.reg_max=9"])
    save_detector(tmp_path / BEST, build_detector(recipe, ["a"], pretrained=False).state_dict(), recipe, ["a"])
    assert choose_begin(tmp_path, said).recipe.model.boxes.reg_max == 9


def test_a_network_of_ones_own_keeps_its_recipe(tmp_path: Path) -> None:
    run = saved(tmp_path, "gfl_nano", "model.channels=32", "data.mix=[1, 2]", "schedule.epoch_steps=3")
    begin = choose_begin(run, said)
    assert begin.recipe == load_recipe("gfl_nano", ["model.channels=32"])  # not what was of that run alone
    assert begin.base == str(tmp_path / BEST)
    assert "no recipe of gfocal has its network (gfl, backbone shufflenet_v2_x1_0" in begin.reason


@pytest.mark.parametrize("name", ["picodet_s_lcnet", "fcos_nano", "ssd_nano", "atss_nano", "gfl_r18", "demo"])
def test_weights_of_every_recipe_are_of_that_detector(tmp_path: Path, name: str) -> None:
    begin = choose_begin(saved(tmp_path, name), said)
    assert begin.base == {"demo": "gfl_nano"}.get(name, name)  # demo is gfl_nano with another schedule
    assert begin.recipe.model == load_recipe(name).model
    assert begin.reason.startswith(f"{begin.base}, the detector that {tmp_path} is of")


def test_what_a_recipe_says_of_data_and_predictions_stays(tmp_path: Path) -> None:
    data = ("data.tile=300", "data.resize.pad=mean", "data.range=[0, 4095]", "predict.nms_iou=0.4", "data.mix=[1, 2]")
    begin = choose_begin(saved(tmp_path, "gfl_nano", *data, "optim.lr=0.5", "schedule.epoch_steps=9"), said)
    assert begin.recipe == load_recipe("gfl_nano", data[:-1])
    for words in (
        "stay data.resize.pad=",
        "data.tile=300",
        "data.range=[0.0, 4095.0]",
        "predict.nms_iou=0.4",
        "as gfl_nano has them are optim.lr=0.5",
    ):
        assert words in begin.reason, begin.reason


@pytest.mark.parametrize("gpu", [True, False])
def test_a_machine_with_a_gpu_is_told_of_larger_ones(
    gpu: bool, chosen_at: Callable[..., Chosen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    reasons = chosen_at(0.05, index_of(40, [[10, 10, 80, 90]])).reasons
    assert any("which trains gfl_r50 as well, with --init gfl_r50_coco" in line for line in reasons) == gpu
    assert find("gfl_r50_coco") is not None


def are_here(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(candidates, "is_here", lambda name: name in names)


def test_better_weights_are_fetched_beside_worse_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    are_here(monkeypatch, *CANDIDATES[-1].weights)
    monkeypatch.setattr(candidates, "model_path", lambda name, say: Path("weights"))
    begin = choose_begin(None, said)
    assert (begin.base, begin.init) == (CANDIDATES[0].recipe, CANDIDATES[0].weights[0])
    assert "the best weights of a small detector (published" in begin.reason


def test_where_better_ones_cannot_be_fetched_those_that_are_here_do(monkeypatch: pytest.MonkeyPatch) -> None:
    here = CANDIDATES[1].weights[0]

    def fetch(name: str, *, say: Callable[[str], None]) -> Path:
        raise GfocalError(f"{name} is gone")

    are_here(monkeypatch, here, CANDIDATES[-1].weights[0])
    monkeypatch.setattr(candidates, "model_path", fetch)
    monkeypatch.delenv("GFOCAL_OFFLINE")
    lines: list[str] = []
    begin = choose_begin(None, lines.append)
    assert (begin.base, begin.init) == (CANDIDATES[1].recipe, here)
    assert lines == [
        f"note: {CANDIDATES[0].weights[0]} is gone",
        f"note: nor can {CANDIDATES[0].weights[1]} be fetched",
    ]


def test_a_host_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a firewall each try takes half a minute, and there are five of each name."""
    asked = []

    def no_answer(entry: Published, file: Path, say: Callable[[str], None]) -> None:
        asked.append(entry.name)
        raise GfocalError(f"{entry.name} could not be fetched") from CutOff("no answer")

    monkeypatch.delenv("GFOCAL_OFFLINE")
    monkeypatch.setattr("gfocal.catalogue.fetch._download", no_answer)
    lines: list[str] = []
    assert choose_begin(None, lines.append).init is None
    hosts = [hosts_of(entry) for name in asked if (entry := find(name)) is not None]
    assert len(hosts) == len(set(hosts)) >= 2
    assert any(line.startswith("note: nor can ") for line in lines)
    # A mirror stands in for all of them.
    asked.clear()
    monkeypatch.setenv("GFOCAL_MIRROR", "https://mirror.test/weights")
    choose_begin(None, said)
    assert asked == [CANDIDATES[0].weights[0]]


def test_a_host_that_says_no_is_asked_for_the_next_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gone(entry: Published, file: Path, say: Callable[[str], None]) -> None:
        asked.append(entry.name)
        raise CannotFetch("nothing there")

    monkeypatch.delenv("GFOCAL_OFFLINE")
    monkeypatch.setattr("gfocal.catalogue.fetch._download", gone)
    assert choose_begin(None, said).init is None
    assert asked == [name for candidate in CANDIDATES for name in candidate.weights]


@pytest.mark.parametrize("place", [0, 2])
def test_offline_it_is_said_what_would_be_better(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    here = CANDIDATES[place].weights[0]
    are_here(monkeypatch, here)
    lines: list[str] = []
    begin = choose_begin(None, lines.append)
    assert begin.init == here
    assert lines == []
    assert (f"models {CANDIDATES[0].weights[0]} --download" in begin.reason) == (place > 0)


def test_what_can_be_fetched_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = CANDIDATES[0].weights[1]
    asked = []

    def fetch(name: str, *, say: Callable[[str], None]) -> Path:
        asked.append(name)
        if name != wanted:
            raise GfocalError(f"{name} is gone")
        return Path("weights")

    monkeypatch.setattr(candidates, "model_path", fetch)
    monkeypatch.delenv("GFOCAL_OFFLINE")
    lines: list[str] = []
    assert choose_begin(None, lines.append).init == wanted
    assert asked == list(CANDIDATES[0].weights)
    assert lines == [f"note: {asked[0]} is gone"]


def test_without_weights_it_is_said() -> None:
    lines: list[str] = []
    begin = choose_begin(None, lines.append)
    assert begin.init is None
    assert "random values" in begin.reason
    assert len(lines) == 2
    assert "GFOCAL_OFFLINE" in lines[0]
    assert CANDIDATES[-1].weights[-1] in lines[1]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.recipe)
def test_candidates_are_published_and_fit(candidate: candidates.Candidate) -> None:
    networks = set()
    for name in candidate.weights:
        entry = find(name)
        assert entry is not None
        assert entry.is_readable
        networks.add(network_of(load_recipe(entry.row)))
    assert networks == {network_of(load_recipe(candidate.recipe))}
