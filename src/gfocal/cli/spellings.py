"""Options of other programs, and what they are called here."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_OUT = "--out DIR is the folder for what is written"
_FIRST = {"train": "the recipe is the first argument", "find-lr": "the recipe is the first argument"}
_START = "--init MODEL starts from trained weights"
_CPU = "a GPU is used where there is one; CUDA_VISIBLE_DEVICES= before the command keeps it on the CPU"
_EVERYWHERE = {
    **dict.fromkeys(("device", "devices", "gpu", "gpus", "gpu_id", "no_cuda", "cpu", "accelerator"), _CPU),
    **dict.fromkeys(("project", "name", "work_dir", "save_dir", "output", "output_dir", "out_dir", "exp_name"), _OUT),
    **dict.fromkeys(("source", "input", "images", "img_path"), "pictures are arguments: gfocal predict MODEL PICTURES"),
    "config": "",
    "cfg": "",
    "model": "",
    "recipe": "",
}
_TRAINING = {
    **dict.fromkeys(("weights", "load_from", "checkpoint", "ckpt", "finetune", "pretrained"), _START),
    **dict.fromkeys(("time", "max_time", "hours", "time_budget"), "--minutes N lays out a training that fits into it"),
    "resume_from": "--resume continues the run in --out",
}
_OF_VERB = {
    "train": _TRAINING,
    "find-lr": _TRAINING,
    "predict": dict.fromkeys(("conf_thres", "conf_threshold", "confidence", "score_thr", "threshold"), "--score"),
    "eval": {"batch": "--batch-size", "bs": "--batch-size"},
}
_SETS = ("train", "find-lr", "demo", "eval", "predict")  # the verbs that take --set


def hint(verb: str, option: str) -> str | None:
    """What to type instead of an option that a verb does not have; None where nothing is known."""
    name = option.lstrip("-").replace("-", "_").lower()
    words = _EVERYWHERE | _OF_VERB.get(verb, {})
    if name in words:
        return words[name] or _FIRST.get(verb, "the model is the first argument")
    if verb not in _SETS:
        return None
    from gfocal.recipe.flags import FLAGS
    from gfocal.recipe.hints import key_named

    key = key_named(name)
    if key is None:
        return "the model is the first argument" if name == "weights" else None
    flag = next((flag for flag, of in FLAGS.items() if of == key), None) if verb == "train" else None
    if key == "predict.score_threshold" and verb == "predict":
        return "--score"
    if key == "model.pretrained" and verb != "train":
        return "the model is the first argument"
    return f"--set {key}=..." if flag is None else f"--{flag}"


class HintingGroup(TyperGroup):
    """The verbs; an option that none has is answered with what it is called here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Typer brings its own copy of click, or takes another one: the class is known by its name alone.
            if type(error).__name__ == "NoSuchOption":
                option, inner = str(getattr(error, "option_name", "")), getattr(error, "ctx", None)
                verb = getattr(getattr(inner, "command", None), "name", None) or ""
                if found := hint(verb, option):
                    error.message = f"{getattr(error, 'message', error)}. Here: {found}"  # type: ignore[attr-defined]
                    error.possibilities = None  # type: ignore[attr-defined]
            raise
