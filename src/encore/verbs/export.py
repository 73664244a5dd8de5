"""`export`: a trained model as a file for other runtimes."""

from __future__ import annotations

from pathlib import Path

from encore.nn.export import Exported, Format, check_destination, export_model
from encore.verbs.apply import opened


def export(run: str | Path, format: Format, out: str | Path) -> Exported:
    """Write a trained model as one file that needs no Encore to run, and compare the two.

    ONNX and `torch.export` programs take pictures as they are (uint8 RGB, any number and size) and answer with
    one map per class at the pictures' size: preprocessing is inside, batch normalisation folded. Safetensors
    files hold the weights by name. All carry the model's description, classes and colours.

    Args:
        run: a RUN's folder, what `save_pretrained` left, or `hf://owner/name`.
        format: `onnx`, `torch-export` or `safetensors`.
        out: the file; ends in `.onnx`, `.pt2` or `.safetensors`.

    Returns:
        The file, its inputs and outputs, and the largest difference from the model that was measured.

    Raises:
        InputError: whatever the user can mend.
        EncoreError: the file does not answer as the model does; it is not kept.
    """
    out = Path(out)
    check_destination(out, format)
    task, model = opened(run, "export")
    model = task.deliverable(model.cpu())
    deployment = None if format == "safetensors" else task.deployed(model)
    return export_model(model, deployment, out, format)
