"""Contents of results.json as studies write them, made up but likely.

They are JSON, of which tests change parts; :func:`read` makes of it what reports take.
"""

from __future__ import annotations

import math
from typing import Any

from gfocal.studies.comparison.content import StudyResults

read = StudyResults.from_dict
COLUMNS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
SIX_FORMS = {
    "none": ("without quality branch", [37.8, 56.2, 40.8, 21.2, 42.1, 48.2], [38.0, 56.5, 40.7, 20.6, 42.1, 49.1]),
    "centerness": ("centerness branch", [38.5, 56.8, 41.6, 22.4, 42.4, 49.1], [39.2, 57.4, 42.2, 23.0, 42.8, 51.1]),
    "iou": ("IoU branch", [38.7, 56.7, 42.0, 21.6, 43.0, 50.3], [39.6, 57.6, 43.0, 23.3, 43.7, 51.2]),
    "centerness_guided": (
        "centerness-guided",
        [37.9, 56.7, 40.7, 21.2, 42.1, 49.4],
        [38.2, 56.2, 41.0, 21.5, 41.9, 49.7],
    ),
    "iou_guided": ("IoU-guided", [38.2, 57.0, 41.1, 22.5, 42.2, 48.9], [38.9, 57.4, 41.8, 22.8, 42.4, 50.6]),
    "joint": ("joint with QFL", [39.0, 57.8, 41.9, 22.0, 43.1, 51.0], [39.9, 58.5, 43.0, 22.4, 43.9, 52.7]),
}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "data": "scenes",
        "train_pictures": 3200,
        "val_pictures": 1000,
        "classes": 5,
        "pyramid": "nano",
        "picture": "256 x 256",
        "iterations": 200,
        "epochs": 1,
        "pictures_a_step": 16,
        "seeds": [0, 1],
        "init": "nanodet_m (backbone, neck)",
        "budget": "small",
        "versions": {"gfocal": "0.1.0", "torch": "2.14.0"},
        "host": {"cpu": "a processor", "cpus": 2, "memory_gb": None, "gpus": []},
        "overrides": [],
        "data_fingerprint": "5f1c8e2a77d0",
        "command": "gfocal study table1a --data scenes --budget small --seeds 0 1",
    } | changes


def statistic(mean: float, seeds: int = 2, spread: float = 0.004) -> dict[str, Any]:
    offsets = [spread * (index - (seeds - 1) / 2) * math.sqrt(2) for index in range(seeds)]
    return {"mean": mean, "spread": spread if seeds > 1 else None, "runs": [mean + offset for offset in offsets]}


def row(
    key: str,
    title: str,
    ap: float | None,
    figures: list[float] | None,
    *,
    group: str = "",
    baseline: str | None = None,
    changes: list[str] | None = None,
    published_difference: float | None = None,
    difference: tuple[float, float, float] | None = None,
    seeds: int = 2,
    **others: Any,
) -> dict[str, Any]:
    measured = None
    if ap is not None:
        shares = [1.0, 1.4, 1.08, 0.55, 1.05, 1.3]
        measured = dict(zip(COLUMNS, (statistic(ap * part, seeds) for part in shares), strict=True))
    keys = ("value", "low", "high")
    by = "pictures and seeds" if seeds > 1 else "pictures"
    state, error = ("done", None) if ap is not None else ("missing", None)
    steps = list(range(1, 201, 4))
    return {
        "key": key,
        "title": title,
        "group": group,
        "baseline": baseline,
        "recipe": "atss_nano",
        "changes": changes or [],
        "box_weight": "centerness",
        "published": dict(zip(COLUMNS, figures, strict=False)) if figures else None,
        "published_difference": published_difference,
        "measured": measured,
        "difference": dict(zip(keys, difference, strict=True)) | {"by": by} if difference else None,
        "correlation": statistic(0.52 + (ap - 0.3), seeds, 0.01) if ap is not None else None,
        "truncated_share": 0.0,
        "runs": [
            {"seed": seed, "state": state, "error": error, "folder": f"runs/{key}-seed{seed}", "seconds": 98.1}
            if state == "done"
            else {"seed": seed, "state": state, "error": error, "folder": f"runs/{key}-seed{seed}", "seconds": None}
            for seed in range(seeds)
        ],
        "curve": {
            "step": steps,
            "loss": [1.1 + 2.4 * math.exp(-step / 45) + 0.12 * math.sin(step * 1.7) for step in steps],
        }
        if ap is not None
        else None,
    } | others


def part(text: str, difference: float | None, low: float | None, high: float | None, **others: Any) -> dict[str, Any]:
    found = "cannot tell" if low is None or high is None or low <= 0 <= high else "holds" if low > 0 else "does not"
    content = {"text": text, "measure": "AP", "difference": difference, "low": low, "high": high, "published": None}
    return content | {"verdict": found} | others


def claim(statement: str, verdict: str, parts: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {
        "statement": statement,
        "verdict": verdict,
        "by": "pictures and seeds",
        "published": "39.9 > 39.6 > 39.2 > 38.0",
        "parts": parts,
    } | others


def results(table: str, title: str, rows: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {
        "table": table,
        "title": title,
        "source": "arXiv 2006.04388, Table " + table[5:],
        "note": "",
        "settings": settings(command=f"gfocal study {table} --data scenes --budget small"),
        "columns": COLUMNS,
        "rows": rows,
        "claims": [],
        "speed": None,
        "failures": [],
        "finished": True,
    } | others


def table1a() -> dict[str, Any]:
    rows = []
    measured = {"fcos": [0.301, 0.309, 0.312, 0.298, 0.303, 0.331], "atss": [0.318, 0.329, 0.331, 0.311, 0.32, 0.345]}
    for name, group, place in (("fcos", "FCOS", 0), ("atss", "ATSS", 1)):
        base = measured[name][1]
        for ap, (kind, (title, *figures)) in zip(measured[name], SIX_FORMS.items(), strict=True):
            is_base = kind == "centerness"
            rows.append(
                row(
                    f"{name}-{kind}",
                    title,
                    ap,
                    figures[place],
                    group=group,
                    baseline=None if is_base else f"{name}-centerness",
                    changes=[] if is_base else [f"model.quality.kind={kind}"],
                    published_difference=None
                    if is_base
                    else round(figures[place][0] - SIX_FORMS["centerness"][1 + place][0], 1),
                    difference=None if is_base else (ap - base, ap - base - 0.013, ap - base + 0.012),
                    recipe=f"{name}_nano",
                )
            )
    claims = [
        claim(
            "On ATSS: joint > IoU branch > centerness branch > none",
            "cannot tell",
            [
                part("joint above IoU branch", 0.014, 0.003, 0.026, published=0.3),
                part("IoU branch above centerness branch", 0.002, -0.011, 0.014, published=0.4),
                part("centerness branch above none", 0.011, -0.001, 0.023, published=1.2),
            ],
        ),
        claim(
            "Guided forms stay below joint",
            "holds",
            [part("joint above centerness-guided, ATSS", 0.034, 0.02, 0.047, published=1.7)],
            published="39.9 > 38.9, 38.2",
        ),
        claim(
            "Scores of joint correlate best with IoU",
            "does not",
            [part("joint above IoU branch", -0.021, -0.03, -0.012, measure="correlation")],
            published="",
            by="pictures",
        ),
    ]
    note = "The box loss is weighted by the centerness target in all six forms, so that they differ in quality alone."
    return results("table1a", "Table 1a: six forms of quality on FCOS and ATSS", rows, claims=claims, note=note)


def table2b() -> dict[str, Any]:
    figures = {
        12: [40.1, 58.4, 43.1, 23.1, 43.8, 52.5],
        14: [40.2, 58.3, 43.6, 23.3, 44.2, 52.2],
        16: [40.2, 58.6, 43.4, 23.0, 44.3, 53.0],
        18: [40.1, 58.1, 43.1, 22.6, 43.9, 52.6],
    }
    measured = {4: 0.274, 7: 0.338, 12: 0.3452, 14: 0.3446, 16: 0.345, 18: 0.3446}
    rows = []
    for n, ap in measured.items():
        found, base = ap - measured[16], n == 16
        rows.append(
            row(
                f"n-{n}",
                f"n = {n}",
                ap,
                figures.get(n),
                baseline=None if base else "n-16",
                changes=[f"model.boxes.reg_max={n}"],
                published_difference=None if base or n not in figures else round(figures[n][0] - 40.2, 1),
                difference=None if base else (found, found - 0.008, found + 0.009),
                recipe="gfl_nano",
                box_weight="score",
                truncated_share={4: 0.183, 7: 0.0112}.get(n, 0.00004 if n == 12 else 0.0),
                seeds=1,
            )
        )
    claims = [
        claim(
            "AP is robust to n from 12 to 18",
            "holds",
            [part(f"n = {n} within 1 point of n = 16", 0.0, -0.006, 0.007, verdict="holds") for n in (12, 14, 18)],
            by="pictures",
            published="40.1, 40.2, 40.2, 40.1",
        )
    ]
    title = "Table 2b: the number of bins n of DFL on ATSS with GFL"
    return results("table2b", title, rows, claims=claims, settings=settings(seeds=[0]))


def table3() -> dict[str, Any]:
    rows = [
        row("atss", "ATSS", 0.329, [39.2, 57.4, 42.2]),
        row("atss-qfl", "with QFL", 0.345, [39.9, 58.5, 43.0], baseline="atss", published_difference=0.7),
        row("atss-dfl", "with DFL", 0.3321, [39.5, 57.3, 42.8], baseline="atss", published_difference=0.3),
        row("gfl", "with QFL and DFL (GFL)", 0.3514, [40.2, 58.6, 43.4], baseline="atss", published_difference=1.0),
    ]
    for item, found in zip(rows[1:], (0.016, 0.0031, 0.0224), strict=True):
        item["difference"] = {"value": found, "low": found - 0.009, "high": found + 0.01, "by": "pictures and seeds"}
    rows[1]["changes"], rows[2]["changes"] = ["model.quality.kind=joint"], ["model.boxes.kind=general_dfl"]
    rows[3] |= {"recipe": "gfl_nano", "box_weight": "score"}
    for item in rows:
        item["published"]["fps"] = 19.4
    times = {"atss": 21.3, "atss-qfl": 21.2, "atss-dfl": 21.7, "gfl": 21.6}
    claims = [
        claim(
            "QFL and DFL add up",
            "cannot tell",
            [
                part("QFL above ATSS", 0.016, 0.007, 0.026, published=0.7),
                part("DFL above ATSS", 0.0031, -0.0059, 0.0131, published=0.3),
            ],
            published="39.2, 39.9, 39.5, 40.2",
        ),
        claim(
            "No overhead",
            "holds",
            [part("GFL at most 3.5 % slower than ATSS", 0.014, 0.006, 0.022, measure="time", verdict="holds")],
            by="timing",
            published="19.4 frames a second in all rows",
        ),
    ]
    speed = {
        "picture": [256, 256],
        "threads": 2,
        "device": "cpu",
        "repeats": 30,
        "candidates": 1234,
        "rows": [
            {
                "key": key,
                "flops": 1_230_000_000 + 10_000_000 * (key in ("atss-dfl", "gfl")),
                "parameters": 930_000,
                "network": {"median_ms": time, "p10_ms": time - 0.8, "p90_ms": time + 2.4},
                "whole": {"median_ms": time + 2.2, "p10_ms": time + 1.3, "p90_ms": time + 5.1},
                "ratio_network": {"median": time / 21.3, "low": time / 21.5, "high": time / 21.1},
                "ratio_whole": {"median": (time + 2.2) / 23.5, "low": time / 21.6, "high": time / 21.0},
                "ratio_flops": 1.008 if key in ("atss-dfl", "gfl") else 1.0,
                "fps": 1000 / (time + 2.2),
            }
            for key, time in times.items()
        ],
    }
    title = "Table 3: the effect of QFL and DFL on ATSS"
    return results("table3", title, rows, claims=claims, speed=speed, columns=COLUMNS[:3])


def _measured(mean: float, difference: tuple[float, float, float] | None) -> dict[str, Any]:
    keys = ("value", "low", "high")
    apart = dict(zip(keys, difference, strict=True)) | {"by": "pictures and seeds"} if difference else None
    return {"measured": statistic(mean, spread=0.01), "difference": apart}


def over_the_schedule(told: dict[str, Any]) -> dict[str, Any]:
    """The same runs, measured on the way too: rows start lower than their baseline, and end where they end."""
    steps = [250, 500, 1000, 2000, 3500, 5000]
    moments = []
    for step in steps:
        share = math.log(step / 50) / math.log(100)
        rows = {}
        for place, item in enumerate(told["rows"]):
            end = item["difference"]
            found = None
            if end:
                value = end["value"] - 0.03 * (1 - share) * (1 + place / 4)
                found = {"value": value, "low": value - 0.012, "high": value + 0.012, "by": "pictures and seeds"}
            shift = 0.02 * place * share
            apart = (shift, shift - 0.01, shift + 0.01) if end else None
            agreement = {
                name: _measured(level * share**0.5 + shift, apart)
                for name, level in {"positives": 0.6, "common": 0.5, "detections": 0.7, "mean_iou": 0.8}.items()
            }
            ap = item["measured"]["AP"]["mean"] * share
            rows[item["key"]] = {
                "AP": statistic(ap),
                "difference": end if step == steps[-1] else found,
                "agreement": agreement,
                "per_class": {"disc": statistic(ap), "ring": None},
            }
        verdicts = [claim | {"verdict": "cannot tell"} for claim in told["claims"]]
        moments.append({"step": step, "rows": rows, "claims": told["claims"] if step == steps[-1] else verdicts})
    ends = [item | {"agreement": rows[item["key"]]["agreement"]} for item in told["rows"]]
    objects = {group: [4311, 4402] for group in dict.fromkeys(item["group"] for item in told["rows"])}
    return told | {"rows": ends, "schedule": moments, "agreement": {"judged_by": "positives", "objects": objects}}


def long1a() -> dict[str, Any]:
    return over_the_schedule(table1a())


def long3() -> dict[str, Any]:
    return over_the_schedule(table3())


def long_unfinished() -> dict[str, Any]:
    """A row has no runs at all, another one none at the first step."""
    told = long3()
    for moment in told["schedule"]:
        nothing = {
            "AP": None,
            "difference": None,
            "per_class": {},
            "agreement": dict.fromkeys(moment["rows"]["atss"]["agreement"]),
        }
        moment["rows"]["atss-dfl"] = nothing
        if moment["step"] == 250:
            moment["rows"]["gfl"] = nothing
    told["rows"][2] |= {"measured": None, "difference": None, "agreement": nothing["agreement"]}
    return told | {"finished": False}


def unfinished() -> dict[str, Any]:
    """One seed; of four rows one has failed, one has not been run; nothing is decided."""
    told = table3()
    rows = [
        row(r["key"], r["title"], None, list(r["published"].values())[:3], seeds=1)
        | {key: r[key] for key in ("baseline", "published_difference")}
        for r in told["rows"]
    ]
    rows[0] = row("atss", "ATSS", 0.329, [39.2, 57.4, 42.2], seeds=1)
    rows[0]["measured"]["APl"] = rows[0]["measured"]["AP75"] = None
    rows[1]["runs"][0] |= {"state": "failed", "error": "the loss is not finite at step 17"}
    claims = [
        claim(
            "QFL and DFL add up", "cannot tell", [part("QFL above ATSS", None, None, None, published=0.7)], by="nothing"
        )
    ]
    return told | {
        "rows": rows,
        "claims": claims,
        "speed": None,
        "settings": settings(seeds=[0], init=None),
        "failures": ["atss-qfl-seed0: the loss is not finite at step 17"],
        "finished": False,
    }


def hostile() -> dict[str, Any]:
    """Names of data and errors that would be code in a page, or cells in Markdown."""
    told = table3()
    told["settings"] = settings(
        data='<script>alert("x")</script> | a*b`c', command="gfocal study table3 --data 'a`b|c'"
    )
    told["rows"][1]["runs"][1] |= {"state": "failed", "error": "class <img src=x onerror=alert(1)> | none\nsecond"}
    told["rows"][2]["title"] = "with $\\frac{1}{ & <b>DFL</b> | x"
    return told | {"finished": False}
