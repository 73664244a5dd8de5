"""How far prototypes are cases: what is measured of a trained network beside its accuracy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits
from encore.papers.prototypes.prototype_network import PrototypeNetwork
from encore.tasks.classification import TASK
from encore.tasks.classification.cases import CASES_BATCH, Neighbours, neighbours
from encore.tasks.views import as_input
from encore.training.trainer import device_of


def case_measures(
    model: PrototypeNetwork, splits: DataSplits, runtime: Runtime, progress: ProgressReporter, stage: str
) -> dict[str, float]:
    """What tells whether prototypes are (almost) encoded cases.

    Returns:
        Over the training part: `nearest_example_distance` (R1) and `nearest_prototype_distance` (R2);
        `label_agreement`, the share of prototypes whose nearest training example has the class that they speak for,
        and `purity`, of their ten nearest, in percent; `classes_covered`, how many classes a prototype speaks for;
        `code_norm`, the mean squared length of a code, the yardstick of the distances. Over the test part:
        `accuracy_after_replacement`, in percent, with every prototype replaced by its nearest training example and
        the head as it was.
    """
    model = copy.deepcopy(model).to(device_of(runtime)).eval()
    samples = TASK.training_part(splits, model)
    found: Neighbours = neighbours(model, TASK.loader(samples, CASES_BATCH))
    supported = model.class_of_prototypes()
    r2, norm = _over_samples(model, samples)
    measures = {
        "nearest_example_distance": float(found.distances.mean()),
        "nearest_prototype_distance": r2,
        "code_norm": norm,
        "label_agreement": 100 * float((found.labels == supported).float().mean()),
        "purity": 100 * float(found.purity.mean()),
        "classes_covered": float(len(supported.unique())),
    }
    model.replace_by_nearest(found.codes, found.labels)
    accuracy = TASK.measure(model, splits.test, runtime, progress, f"{stage}: after replacement")["accuracy"]
    return {**measures, "accuracy_after_replacement": 0.0 if accuracy is None else accuracy}


@torch.no_grad()
def _over_samples(model: PrototypeNetwork, samples: Any) -> tuple[float, float]:
    """R2 and the mean squared length of codes over all samples."""
    nearest, norm, total = 0.0, 0.0, 0
    for batch in TASK.loader(samples, CASES_BATCH):
        codes = model.encode(as_input(model, batch["image"]))
        nearest += float(model.distances(codes).amin(1).double().sum())
        norm += float(codes.square().sum(1).double().sum())
        total += len(codes)
    return nearest / total, norm / total


def draw_prototypes(models: dict[str, PrototypeNetwork], path: Path) -> None:
    """Every prototype of each model, decoded, one model a row, ordered by the class that they speak for."""
    from matplotlib.figure import Figure

    from encore.base.files import replacing

    columns = max(model.num_prototypes for model in models.values())
    figure = Figure(figsize=(0.62 * columns + 1.4, 0.95 * len(models) + 0.1), layout="constrained")
    axes = figure.subplots(len(models), columns, squeeze=False)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        supported = model.class_of_prototypes().tolist()
        order = sorted(range(len(supported)), key=lambda case: (supported[case], case))
        shown = model.decoded_prototypes().cpu()
        for axis in row:
            axis.set_axis_off()
        for axis, case in zip(row, order, strict=False):
            axis.imshow(shown[case].mean(0).numpy(), cmap="gray", vmin=0, vmax=1)
            label = model.classes[supported[case]] if model.classes else str(supported[case])
            axis.set_title(label[:11].replace("$", r"\$"), fontsize=6, pad=2)
        row[0].text(-0.25, 0.5, name.replace("_", " "), transform=row[0].transAxes, ha="right", va="center", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
