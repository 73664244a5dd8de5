"""The task `tabular-classification`: the hooks of `Task`."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.data import DataLoader

from encore.base import registry
from encore.base.errors import ConfigurationError, RunFolderError
from encore.base.files import write_text
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits, Samples
from encore.data.splits import shuffled
from encore.data.tables import TableRows, open_table_part, open_tables, takes_table
from encore.data.tabular_columns import Columns, TableView
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model
from encore.nn.export import Deployment, Port
from encore.nn.model import EncoreModel
from encore.nn.tables.row_model import RowModel
from encore.tasks.base import Measured, Metrics, Task, TrainedModel, check_kind, details_of
from encore.tasks.classification.cases import LearnsCases, check_learns_cases, neighbours, pruned, refit_head
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.classification.pictures import confusion_picture
from encore.tasks.tabular_classification.cases import as_batches, write_cases
from encore.tasks.tabular_classification.configuration import TabularFit
from encore.tasks.tabular_classification.module import TabularModule
from encore.tasks.tabular_classification.pictures import SHOWN_COLUMNS, ShownRow, draw_rows
from encore.tasks.tabular_classification.prediction import predict_tables
from encore.tasks.views import ByEpoch
from encore.training.loading import plain_loader
from encore.training.trainer import device_of

HEAD = "head"
"""What a model calls the layer that begins afresh for other classes."""

COLUMNS = "table"
"""The entry of a model's `details` that holds its `Columns`."""

EXAMPLE_SIZES = ({"batch": 2}, {"batch": 1}, {"batch": 7})
"""At the first an exported model is traced, at the others the file is compared with it."""

REFIT_STEPS = 5
"""Steps of L-BFGS with which the head follows cases that were dropped. Few rows are often separable, and a head fitted
to the end would then give cases weights that no longer tell whose they are."""

_BATCH = 1024


class TabularClassificationTask(Task):
    """One class for every row of a table; metrics in percent."""

    name = "tabular-classification"
    configuration = TabularFit

    def takes(self, source: str) -> bool:
        """A named table, a file that is one, or a folder of such files."""
        return takes_table(source)

    def monitor(self, configuration: TabularFit) -> str:
        """The configured one."""
        return configuration.monitor

    def open_data(
        self, source: str, configuration: TabularFit, runtime: Runtime, progress: ProgressReporter
    ) -> DataSplits:
        """Open a table, a folder of tables or a named one."""
        splits = open_tables(
            source,
            target=configuration.target,
            ignore=configuration.ignore,
            categorical=configuration.categorical,
            missing=configuration.missing,
            seed=runtime.seed,
            roots=runtime.data,
        )
        constant = view_of(splits).columns.constant
        if constant:
            shown = ", ".join(constant[:5]) + (" …" if len(constant) > 5 else "")
            progress.message(f"left out, as they do not vary in the training part: {len(constant)} columns ({shown})")
        rows = np.concatenate([part.features.numpy() for part in (splits.train, splits.val, splits.test)])
        for name in view_of(splits).columns.numbering(rows):
            progress.message(f"column '{name}' seems to number the rows: if so, leave it out with ignore={name}")
        return self.shortened(splits, configuration)

    def shortened(self, splits: DataSplits, configuration: TabularFit) -> DataSplits:
        """`splits` with as many training rows as the configuration asks for; columns and statistics stay.

        Raises:
            ConfigurationError: a class loses all its rows.
        """
        train: TableRows = splits.train
        wanted = configuration.train_samples
        if wanted is None or wanted >= len(train):
            return splits
        kept = sorted(shuffled(len(train), 0, train.labels)[:wanted])
        lost = set(train.labels) - {train.labels[index] for index in kept}
        if lost:
            raise ConfigurationError(
                f"train_samples: among {wanted} training rows none is of the class '{train.classes[min(lost)]}'",
                "take more",
            )
        labels, names = [train.labels[index] for index in kept], [train.names[index] for index in kept]
        return replace(splits, train=TableRows(train.features[kept].numpy(), labels, train.classes, names))

    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """The test part of `source` in the model's columns.

        Raises:
            DataError: it lacks columns, or has classes or levels that the model has not learnt.
        """
        columns = columns_of(model)
        return open_table_part(source, columns, model.classes or (), roots=runtime.data, cut_seed=cut_seed)

    def make_model(self, splits: DataSplits, configuration: TabularFit, seed: int) -> EncoreModel:
        """A fresh model for the table's columns and classes; from weights of a RUN on a table with the same columns.

        Raises:
            ConfigurationError: the model takes no rows, is to have another size than the table, or the weights are of
                other columns.
        """
        torch.manual_seed(seed)
        if "num_features" not in inspect.signature(registry.model_factory(configuration.model)).parameters:
            raise ConfigurationError(
                f"'{configuration.model}' does not take rows of a table",
                f"see encore.list_models(task='{self.name}')",
            )
        given = {"num_features": view_of(splits).columns.num_features, "num_classes": len(splits.classes)}
        for key, due in given.items():
            if configuration.model_arguments.get(key, due) != due:
                raise ConfigurationError(
                    f"model_arguments.{key} is {configuration.model_arguments[key]}, but {splits.name} has {due}",
                    "leave it out",
                )
        arguments = {**configuration.model_arguments, **given}
        model: EncoreModel = create_model(
            configuration.model, weights=configuration.weights, fresh=(HEAD,), **arguments
        )
        check_kind(model, self.name)
        check_learns_cases(model, replaced=configuration.replace_cases, least_purity=configuration.least_purity)
        self.prepare(model, splits, configuration)
        return model

    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: TabularFit) -> None:
        """Classes, columns, and what is usual in them; a model with columns of its own keeps that."""
        view, rows = view_of(splits), as_row_model(model)
        if model.details is not None:
            if columns_of(model).feature_names != view.columns.feature_names:
                raise ConfigurationError(
                    f"the weights are of a table with other columns than {splits.name}", "train without weights"
                )
        else:
            rows.standardisation.learn(torch.from_numpy(view.mean), torch.from_numpy(view.std))
        model.task = self.name
        model.classes = tuple(splits.classes)
        model.details = {COLUMNS: view.columns.model_dump(mode="json")}

    def module(self, model: EncoreModel, splits: DataSplits, configuration: TabularFit) -> TabularModule:
        """The model with its loss."""
        return TabularModule(
            as_row_model(model), configuration.training, tuple(splits.classes), configuration.label_smoothing
        )

    def train(
        self,
        splits: DataSplits,
        configuration: TabularFit,
        *,
        runtime: Runtime,
        folder: Path,
        progress: ProgressReporter,
        stage: str,
    ) -> TrainedModel:
        """As `Task.train`; of a model that learns cases it also leaves what they are, and replaces or drops them."""
        trained = super().train(splits, configuration, runtime=runtime, folder=folder, progress=progress, stage=stage)
        model = as_row_model(trained.model)
        if not isinstance(model, LearnsCases):
            return trained
        found = neighbours(model, as_batches(splits.train))
        if configuration.replace_cases or configuration.least_purity:
            owners = None if model.owners is None else model.owners.cpu()
            kept = pruned(found.purity.cpu(), configuration.least_purity, owners)
            if configuration.replace_cases:
                model.replace_by_nearest(found.codes, found.labels)
            if len(kept) < len(found.purity):
                model.prune(kept)
                refit_head(model, as_batches(splits.train), REFIT_STEPS)
            found = neighbours(model, as_batches(splits.train))
            validation = self.measure(model, splits.val, runtime, progress, f"{stage}: validation")
            test = self.measure(model, splits.test, runtime, progress, f"{stage}: test")
            trained = replace(trained, validation=validation, test=test)
            model.save(folder)
        columns, replaced = view_of(splits).columns, configuration.replace_cases
        progress.picture(stage, write_cases(model, columns, found, splits.train, folder, replaced=replaced))
        return trained

    def training_set(self, splits: DataSplits, configuration: TabularFit, seed: int) -> Samples:
        """The training rows, alike in every epoch."""
        return ByEpoch(splits.train)

    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Stacked samples in order."""
        return plain_loader(dataset, batch_size)

    def forward(self, model: EncoreModel, batch: Any) -> Any:
        """The logits of a batch of rows."""
        return model(model.preprocess(batch["features"]))

    @torch.no_grad()
    def measure(
        self, model: EncoreModel, dataset: Samples, runtime: Runtime, progress: ProgressReporter, stage: str
    ) -> Metrics:
        """Accuracies in percent, log loss, per-class figures; the confusion matrix among the details."""
        model.to(device_of(runtime)).eval()
        assert model.classes is not None
        metrics = ClassificationMetrics(model.classes).to(model.device)
        done = 0
        for batch in self.loader(dataset, _BATCH):
            metrics.update(self.forward(model, batch), batch["label"].to(model.device))
            done += len(batch["label"])
            progress.update(stage, done, len(dataset))
        details = {"classes": list(model.classes), "confusion": metrics.confusion.cpu().tolist()}
        return Measured(metrics.compute(), details)

    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """A class for every row of tables, with reasons where the model has them, and `predictions.jsonl`."""
        rows = as_row_model(model.to(device_of(runtime)).eval())
        return predict_tables(rows, columns_of(model), inputs, folder, progress)

    def deployed(self, model: EncoreModel) -> Deployment:
        """Rows in the table's units in, one score per class out."""
        assert model.classes is not None
        columns = columns_of(model)
        return Deployment(
            RowsToScores(as_row_model(model)),
            inputs=(Port("features", "float32", ("batch", columns.num_features)),),
            outputs=(Port("logits", "float32", ("batch", len(model.classes))),),
            sizes=EXAMPLE_SIZES,
        )

    @torch.no_grad()
    def picture(
        self,
        models: Mapping[str, EncoreModel],
        dataset: Samples,
        path: Path,
        runtime: Runtime,
        num_samples: int = 10,
    ) -> None:
        """Rows spread over `dataset`, their classes, and what each model takes them for."""
        total, first = len(dataset), as_row_model(next(iter(models.values())))
        columns, classes = columns_of(first), first.classes
        assert classes is not None
        indices = sorted({round(place * (total - 1) / max(num_samples - 1, 1)) for place in range(num_samples)})
        samples = [dataset[index] for index in indices]
        features = torch.stack([sample["features"] for sample in samples])
        answers = {
            name: model.to(device_of(runtime)).eval()(model.preprocess(features)).argmax(1).tolist()
            for name, model in models.items()
        }
        deviations = first.preprocess(features).cpu()
        shown = []
        for place, sample in enumerate(samples):
            taken = [classes[answer[place]] for answer in answers.values()]
            truth = classes[sample["label"]]
            colour = "tab:green" if all(one == truth for one in taken) else "tab:red"
            label = f"{truth} → {', '.join(taken)}"
            shown.append(ShownRow(label, columns.values_of(features[place]), deviations[place], frozenset(), colour))
        names = [column.name for column in columns.columns[:SHOWN_COLUMNS]]
        draw_rows(shown, columns, names, f"truth → what it is taken for by {', '.join(models)}", path)

    def figures(self, measured: Metrics, folder: Path) -> list[Path]:
        """The confusion matrix, as `confusion.png` and `confusion.json`."""
        details = details_of(measured)
        if not details:
            return []
        confusion_picture(torch.tensor(details["confusion"]), details["classes"], folder / "confusion.png")
        write_text(folder / "confusion.json", json.dumps(details, ensure_ascii=False) + "\n")
        return [folder / "confusion.png"]


class RowsToScores(nn.Module):
    """Rows in the table's units → logits; standardisation is inside, batch normalisation folded.

    Args:
        model: (B, D), standardised → (B, K); a copy is kept.
    """

    def __init__(self, model: RowModel) -> None:
        super().__init__()
        self.standardisation = copy.deepcopy(model.standardisation).cpu()
        self.model = folded(model).cpu()

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) float32 → (B, K) float32."""
        logits: Tensor = self.model(self.standardisation(features)).float()
        return logits


def view_of(splits: DataSplits) -> TableView:
    """What a model has to know of a table that was opened."""
    view = splits.view
    assert isinstance(view, TableView)
    return view


def as_row_model(model: EncoreModel) -> RowModel:
    """A model of rows.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(model, RowModel):
        raise ConfigurationError(
            f"'{model.registered_name}' is no RowModel", "see encore.list_models(task='tabular-classification')"
        )
    return model


def columns_of(model: EncoreModel) -> Columns:
    """The columns of the table that a model was fitted to.

    Raises:
        RunFolderError: it does not know them, or its `config.json` is damaged.
    """
    remedy = "give a folder that encore fit or encore run left"
    if not model.details or COLUMNS not in model.details:
        raise RunFolderError("the model does not say which columns it was fitted to", remedy)
    try:
        return Columns.model_validate(model.details[COLUMNS])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunFolderError(f"the model's columns are damaged ({where}: {first['msg']})", remedy) from error


TASK = TabularClassificationTask()
