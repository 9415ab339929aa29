"""gfocal: dense object detectors built on Generalized Focal Loss.

    import gfocal
    detector = gfocal.load("runs/street")  # or a checkpoint file, or a recipe name (untrained)
    found = detector.predict("street.jpg")

What is public: the names in ``__all__``, and what the packages among them list in theirs. They stay where the modules
behind them move. Importing the package loads nothing heavy: torch comes with the first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfocal import assigners, boxes, calibration, evaluation, losses, models, points, recipe, representation
    from gfocal.analysis.statistics import DataStatistics, data_statistics
    from gfocal.commands.report import RunReport, write_report
    from gfocal.criterion import assign_batch, detection_losses
    from gfocal.data.formats.convert import write_dataset
    from gfocal.data.formats.open import open_dataset, open_splits
    from gfocal.data.index.data_index import DataIndex
    from gfocal.data.scenes.generate import make_scenes
    from gfocal.detections import Detections
    from gfocal.detector import DenseDetector
    from gfocal.errors import BrokenInputError, GfocalError, MissingSplitError, UsageError
    from gfocal.evaluation.evaluator import evaluate
    from gfocal.evaluation.measured import Evaluation
    from gfocal.exported.detector import ExportedDetector
    from gfocal.images.drawing import draw
    from gfocal.interop.load import import_weights
    from gfocal.models.postprocess import suppress
    from gfocal.points import Points
    from gfocal.prediction.open import load
    from gfocal.prediction.predict import Prediction, predict
    from gfocal.prediction.search import find_images
    from gfocal.recipe.reading import build_recipe, load_recipe
    from gfocal.runs.folder import TrainResult
    from gfocal.structures import Assignment, BatchAssignment, HeadOutput, Targets
    from gfocal.studies.comparison.content import StudyResults
    from gfocal.studies.comparison.results import collect as study_results
    from gfocal.studies.execution.budget import study_budget
    from gfocal.studies.execution.study import StudySettings, open_study
    from gfocal.studies.figures.draw import draw_figures
    from gfocal.studies.paper.tables import TABLES as STUDY_TABLES
    from gfocal.studies.report.write import write_study_report
    from gfocal.training.train import train
    from gfocal.zoo import add_assistant, build_detector, build_head

__version__ = "0.3.0.dev0"
__all__ = [
    "STUDY_TABLES",
    "Assignment",
    "BatchAssignment",
    "BrokenInputError",
    "DataIndex",
    "DataStatistics",
    "DenseDetector",
    "Detections",
    "Evaluation",
    "ExportedDetector",
    "GfocalError",
    "HeadOutput",
    "MissingSplitError",
    "Points",
    "Prediction",
    "RunReport",
    "StudyResults",
    "StudySettings",
    "Targets",
    "TrainResult",
    "UsageError",
    "__version__",
    "add_assistant",
    "assign_batch",
    "assigners",
    "boxes",
    "build_detector",
    "build_head",
    "build_recipe",
    "calibration",
    "data_statistics",
    "detection_losses",
    "draw",
    "draw_figures",
    "evaluate",
    "evaluation",
    "find_images",
    "import_weights",
    "load",
    "load_recipe",
    "losses",
    "make_scenes",
    "models",
    "open_dataset",
    "open_splits",
    "open_study",
    "points",
    "predict",
    "recipe",
    "representation",
    "study_budget",
    "study_results",
    "suppress",
    "train",
    "write_dataset",
    "write_report",
    "write_study_report",
]

# Where each name is defined, as "module:name" where the definition has another one. Nothing else in this file but the
# imports for type checkers, which a test compares with it, knows a module.
_PLACES = {
    # Detectors
    "load": "gfocal.prediction.open",
    "add_assistant": "gfocal.zoo",
    "build_detector": "gfocal.zoo",
    "build_head": "gfocal.zoo",
    "DenseDetector": "gfocal.detector",
    "ExportedDetector": "gfocal.exported.detector",
    "train": "gfocal.training.train",
    "evaluate": "gfocal.evaluation.evaluator",
    "predict": "gfocal.prediction.predict",
    "TrainResult": "gfocal.runs.folder",
    "Evaluation": "gfocal.evaluation.measured",
    "write_report": "gfocal.commands.report",
    "RunReport": "gfocal.commands.report",
    "Prediction": "gfocal.prediction.predict",
    "find_images": "gfocal.prediction.search",
    "draw": "gfocal.images.drawing",
    "import_weights": "gfocal.interop.load",
    # Recipes
    "load_recipe": "gfocal.recipe.reading",
    "build_recipe": "gfocal.recipe.reading",
    # Data
    "open_dataset": "gfocal.data.formats.open",
    "open_splits": "gfocal.data.formats.open",
    "DataIndex": "gfocal.data.index.data_index",
    "write_dataset": "gfocal.data.formats.convert",
    "make_scenes": "gfocal.data.scenes.generate",
    "data_statistics": "gfocal.analysis.statistics",
    "DataStatistics": "gfocal.analysis.statistics",
    # What flows between the parts, and the algorithm
    "Targets": "gfocal.structures",
    "Detections": "gfocal.detections",
    "HeadOutput": "gfocal.structures",
    "Assignment": "gfocal.structures",
    "BatchAssignment": "gfocal.structures",
    "Points": "gfocal.points",
    "assign_batch": "gfocal.criterion",
    "detection_losses": "gfocal.criterion",
    "suppress": "gfocal.models.postprocess",
    # Studies
    "STUDY_TABLES": "gfocal.studies.paper.tables:TABLES",
    "StudySettings": "gfocal.studies.execution.study",
    "study_budget": "gfocal.studies.execution.budget",
    "open_study": "gfocal.studies.execution.study",
    "study_results": "gfocal.studies.comparison.results:collect",
    "StudyResults": "gfocal.studies.comparison.content",
    "write_study_report": "gfocal.studies.report.write",
    "draw_figures": "gfocal.studies.figures.draw",
    # Errors
    "GfocalError": "gfocal.errors",
    "UsageError": "gfocal.errors",
    "BrokenInputError": "gfocal.errors",
    "MissingSplitError": "gfocal.errors",
}
_PACKAGES = (
    "assigners",
    "boxes",
    "calibration",
    "evaluation",
    "losses",
    "models",
    "points",
    "recipe",
    "representation",
)


if not TYPE_CHECKING:  # or a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return import_module(f"gfocal.{name}")
        if name not in _PLACES:
            import difflib  # for the mistake alone

            near = difflib.get_close_matches(name, __all__, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise AttributeError(f"module 'gfocal' has no attribute {name!r}{hint}")
        module, _, defined = _PLACES[name].partition(":")
        value = getattr(import_module(module), defined or name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
