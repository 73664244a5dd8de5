"""Densities that learn by gradients go through the same verbs."""

from pathlib import Path

import pytest

import encore
from encore.base.errors import ConfigurationError, InputError
from encore.tasks.lossless_compression.task import as_density

SETTINGS = {
    "model": "bits_back_vae",
    "model_arguments.hidden": 16,
    "model_arguments.latents": 4,
    "training.batch_size": 64,
    "train_samples": 500,
}


def test_a_network_is_fitted_and_evaluated(tmp_path: Path):
    outcome = encore.fit("lossless-compression", "digits", settings=SETTINGS, epochs=3, out=tmp_path / "run")
    assert 0 < outcome.metrics["bits_per_dimension"] < 8
    again = encore.evaluate(tmp_path / "run", "digits")
    assert again == pytest.approx(outcome.metrics)
    assert (tmp_path / "run" / "examples.png").is_file()


def test_other_models_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="is a model for segmentation"):
        encore.fit("lossless-compression", "digits", settings={"model": "segnet_basic"}, out=tmp_path / "a")
    with pytest.raises(InputError, match="encore fit pc_compression"):
        encore.fit("lossless-compression", "digits", settings={"model": "hclt"}, out=tmp_path / "b")
    with pytest.raises(ConfigurationError, match="how probable"):
        as_density(encore.create_model("segnet_basic", num_classes=2))
