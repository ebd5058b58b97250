"""A report as an evaluation of three classes writes it, drawn from random scores: realistic, and known in advance."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

import cv2
import numpy as np

SHOTS, SEEDS = (0, 1, 2, 4), (0, 1, 2)
CLASSES = {"bottle": 1.9, "cable": 0.9, "metal_nut": 1.3}
"""How far the anomalous scores of each class lie above the normal ones, in standard deviations."""

NORMALS, ANOMALIES = 30, 63
METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "image_f1_trivial",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pro",
    "pro_released",
)
NO_MASKS = "no anomalous pixel: all masks of the class are empty"


def fake_report() -> dict[str, Any]:
    """``edgevand.report/1`` of three classes, 0, 1, 2 and 4 shots and three seeds."""
    rows = [_row(name, k, seed) for name in CLASSES for k in SHOTS for seed in SEEDS]
    return {
        "schema": "edgevand.report/1",
        "created": "2026-11-24T11:20:18Z",
        "edgevand": "0.1.0",
        "dataset": {"root": "/data/mvtec", "layout": "mvtec", "recognised": "MVTec AD"},
        "bundle": {
            "hash": "sha256:" + "3f" * 32,
            "name": "ViT-L-14-336-518-fp16",
            "model": "ViT-L-14-336",
            "precision": "fp16",
            "image": [518, 518],
            "image_score": "max",
        },
        "options": {
            "shots": list(SHOTS),
            "seeds": list(SEEDS),
            "score_rule": "max",
            "false_alarm_rate": 0.01,
            "augment": [],
            "object": None,
            "text": None,
            "ordered": False,
        },
        "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "engine": "onnxruntime 1.23 CPU"},
        "rows": rows,
        "summary": [_summary(rows, name, k) for k in SHOTS for name in (*CLASSES, "mean")],
        "aufc": None,
        "aufc_reason": "needs --shots with 1, 2, 4 and 8",
        "published": [
            {
                "source": "APRIL-GAN, VAND 2023",
                "class": "mean",
                "shots": 4,
                "metrics": {"image_auroc": 0.928, "pixel_auroc": 0.959},
                "std": {"image_auroc": 0.002, "pixel_auroc": 0.0},
            },
            {
                "source": "PatchCore",
                "class": "mean",
                "shots": 1,
                "metrics": {"image_auroc": 0.863},
                "note": "its 1- and 2-shot rows look swapped",
            },
            {
                "source": "APRIL-GAN, VAND 2023",
                "class": "bottle",
                "shots": 4,
                "metrics": {"image_auroc": 0.942, "pixel_auroc": 0.972, "pro_released": 0.943},
            },
        ],
        "worst": [
            _worst("bottle", "miss", 3, 0.71),
            _worst("cable", "miss", 14, 0.66),
            _worst("cable", "false alarm", 7, 3.4),
            {**_worst("metal_nut", "false alarm", 9, 2.9), "picture": "lost"},
        ],
        "failures": [
            {"image": "cable/test/bent_wire/004.png", "error": "expected an image, found a file cut off; copy it again"}
        ],
    }


def fake_pictures() -> dict[str, bytes]:
    """JPEG bytes for all worst frames but the one named "lost"."""
    pictures = {}
    for number, entry in enumerate(fake_report()["worst"]):
        if entry["picture"] != "lost":
            y, x = np.mgrid[0:300, 0:804]
            image = np.dstack([x % 256, (y + 40 * number) % 256, (x + y) % 256]).astype(np.uint8)
            pictures[entry["picture"]] = cv2.imencode(".jpg", image)[1].tobytes()
    return pictures


def _row(name: str, k: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng([*name.encode(), k, seed])
    distance = CLASSES[name] + 0.35 * k**0.5
    normal = np.exp(random.normal(0, 0.25, NORMALS))
    anomalous = np.exp(random.normal(0.25 * distance, 0.35, ANOMALIES))
    auroc = float((anomalous[:, None] > normal).mean())
    masks = name != "metal_nut"
    values = {
        "image_auroc": auroc,
        "image_ap": auroc**0.6,
        "image_f1_max": 0.3 + 0.6 * auroc,
        "image_f1_trivial": 2 * ANOMALIES / (2 * ANOMALIES + NORMALS),
        "pixel_auroc": 0.97 - 0.02 * float(random.uniform()) if masks else None,
        "pixel_ap": 0.5 + 0.03 * k**0.5 if masks else None,
        "pixel_f1_max": 0.52 + 0.02 * k**0.5 if masks else None,
        "pro": 0.9 + 0.01 * k if masks else None,
        "pro_released": 0.88 + 0.01 * k if masks else None,
    }
    threshold = 1.75 if k >= 4 else None
    edges = np.linspace(min(normal.min(), anomalous.min()), max(normal.max(), anomalous.max()), 25)
    return {
        "class": name,
        "object": name.replace("_", " "),
        "shots": k,
        "seed": seed,
        "enrolled": [f"{name}/train/good/{number:03d}.png" for number in random.choice(200, k, replace=False)],
        "images": {"normal": NORMALS, "anomalous": ANOMALIES, "unreadable": int(name == "cable")},
        "metrics": values,
        "undefined": {metric: NO_MASKS for metric, value in values.items() if value is None},
        "latency_ms": {"p50": 41.2 + k, "p95": 55.0 + k},
        "calibration": _calibration(normal, anomalous, k, threshold),
        "ordered": _ordered(normal, threshold) if name == "cable" and threshold else None,
        "curves": {"roc": _roc(normal, anomalous), "pro": _pro(random) if masks else None},
        "histogram": {
            "edges": edges.tolist(),
            "normal": np.histogram(normal, edges)[0].tolist(),
            "anomalous": np.histogram(anomalous, edges)[0].tolist(),
            "threshold": threshold,
        },
    }


def _calibration(normal: Any, anomalous: Any, k: int, threshold: float | None) -> dict[str, Any]:
    if threshold is None:
        empty = ("false_alarm_rate", "false_alarms", "normals", "detection_rate", "detections", "anomalies")
        return {"kind": "none", "n": 0, "threshold": None, "wanted": 0.01, **dict.fromkeys(empty)}
    alarms, found = int((normal > threshold).sum()), int((anomalous > threshold).sum())
    return {
        "kind": "extrapolated",
        "n": k,
        "threshold": threshold,
        "wanted": 0.01,
        "false_alarm_rate": alarms / NORMALS,
        "false_alarms": alarms,
        "normals": NORMALS,
        "detection_rate": found / ANOMALIES,
        "detections": found,
        "anomalies": ANOMALIES,
    }


def _ordered(normal: Any, threshold: float) -> list[dict[str, Any]]:
    parts = zip(("first", "middle", "last"), np.array_split(normal, 3), (1.0, 1.1, 1.3), strict=True)
    return [
        {
            "third": third,
            "false_alarm_rate": float((drift * part > threshold).mean()),
            "normals": len(part),
            "median_score": float(np.median(drift * part)),
        }
        for third, part, drift in parts
    ]


def _roc(normal: Any, anomalous: Any) -> list[list[float]]:
    thresholds = np.sort(np.concatenate([normal, anomalous]))[::-1]
    fpr = [0.0, *[float((normal >= each).mean()) for each in thresholds]]
    tpr = [0.0, *[float((anomalous >= each).mean()) for each in thresholds]]
    return [fpr, tpr]


def _pro(random: Any) -> list[list[float]]:
    fpr = np.linspace(0, 1, 120) ** 3
    return [fpr.tolist(), (1 - np.exp(-fpr * float(random.uniform(18, 30)))).tolist()]


def _summary(rows: list[dict[str, Any]], name: str, k: int) -> dict[str, Any]:
    members = [row for row in rows if row["shots"] == k and name in (row["class"], "mean")]
    metrics: dict[str, Any] = {}
    for metric in METRICS:
        of_seed = [
            fmean(values)
            for seed in SEEDS
            if (
                values := [
                    row["metrics"][metric]
                    for row in members
                    if row["seed"] == seed and row["metrics"][metric] is not None
                ]
            )
        ]
        mean = fmean(of_seed) if of_seed else None
        std = stdev(of_seed) if len(of_seed) > 1 else None
        metrics[metric] = {"mean": mean, "std": std, "n": len(of_seed)}
    return {"class": name, "shots": k, "metrics": metrics}


def _worst(name: str, kind: str, number: int, score: float) -> dict[str, Any]:
    return {
        "class": name,
        "shots": 4,
        "seed": 0,
        "kind": kind,
        "image": f"{name}/test/{'good' if kind == 'false alarm' else 'broken'}/{number:03d}.png",
        "score": score,
        "threshold": 1.75,
        "picture": f"{name}-{number}",
    }
