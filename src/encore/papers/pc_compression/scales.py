"""The settings of the recipe's trainings at each scale."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from encore.base.configuration import Configuration
from encore.base.runtime import Scale
from encore.papers.pc_compression.method import HCLTFit
from encore.tasks.lossless_compression import CompressionFit


class CompressionConfiguration(Configuration):
    """Keys of `encore run pc_compression`.

    Attributes:
        hclt: of the circuits.
        vae: of the bits-back autoencoder.
        test_samples: how many of the test pictures are measured and coded; null for all.
        neural_samples: how many of them the autoencoder codes, which is slow; they are spread over all.
        photographs: of the circuits on photographs.
        flow: of the flow before trees are found over its latents.
        joint: of the flow with and without trees, both from where `flow` ended.
        flow_states: H of those trees.
        tree_samples: training pictures from which they are found.
        photograph_test: how many test photographs are measured.
    """

    hclt: HCLTFit = Field(default_factory=HCLTFit)
    vae: CompressionFit = Field(default_factory=CompressionFit)
    test_samples: int | None = Field(default=None, ge=10)
    neural_samples: int = Field(default=2000, ge=10)
    photographs: HCLTFit = Field(default_factory=HCLTFit)
    flow: CompressionFit = Field(default_factory=CompressionFit)
    joint: CompressionFit = Field(default_factory=CompressionFit)
    flow_states: int = Field(default=4, ge=1)
    tree_samples: int = Field(default=1000, ge=10)
    photograph_test: int | None = Field(default=1000, ge=10)


_VAE: dict[str, Any] = {
    "training": {
        "epochs": 30,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "recompute_batch_norm": False,
        "channels_last": False,
    }
}


def _flow(epochs: int, levels: int, steps: int, channels: int, depth: int, samples: int | None) -> dict[str, Any]:
    return {
        "model": "integer_flow",
        "model_arguments": {"levels": levels, "steps": steps, "channels": channels, "depth": depth},
        "train_samples": samples,
        "training": {
            "epochs": epochs,
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": 2e-3,
            "weight_decay": 0.0,
            "gradient_clip": 10.0,
            "recompute_batch_norm": False,
            "channels_last": False,
        },
    }


def _photographs(states: int, epochs: int, samples: int | None) -> dict[str, Any]:
    training = {"epochs": epochs, "batch_size": 256}
    return {"num_states": states, "structure_samples": 2000, "train_samples": samples, "training": training}


DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        "photographs": _photographs(2, 1, 200),
        "flow": _flow(1, 2, 1, 4, 1, 100),
        "joint": _flow(1, 2, 1, 4, 1, 100),
        "tree_samples": 50,
        "photograph_test": 20,
        "hclt": {"num_states": 4, "training": {"epochs": 3, "batch_size": 128}},
        "vae": {**_VAE, "training": {**_VAE["training"], "epochs": 1}},
        "test_samples": 100,
        "neural_samples": 30,
    },
    "laptop": {
        "hclt": {"num_states": 32, "training": {"epochs": 20}},
        "vae": _VAE,
        "photographs": _photographs(8, 10, 4000),
        "flow": _flow(5, 3, 3, 32, 3, 4000),
        "joint": _flow(4, 3, 3, 32, 3, 4000),
    },
    # The official notebook's schedule.
    "paper": {
        "hclt": {"num_states": 32, "structure_samples": 60_000, "training": {"epochs": 350}},
        "vae": {**_VAE, "training": {**_VAE["training"], "epochs": 200}},
        "neural_samples": 10_000,
        "photographs": _photographs(16, 100, None),
        "flow": _flow(300, 3, 8, 512, 12, None),
        "joint": _flow(100, 3, 8, 512, 12, None),
        "tree_samples": 20_000,
        "photograph_test": None,
    },
}
