"""The run folder: what a trained model is on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from medlib.baseline.config import TrainConfig
from medlib.baseline.network import load_weights, without_normalisation
from medlib.baseline.network_passes import Model
from medlib.baseline.runtime import ForInference
from medlib.errors import RunError
from medlib.keys import digest

CONFIG, WEIGHTS, HISTORY, CARD = "config.json", "weights.safetensors", "history.csv", "card.json"
OUTLINER = "outliner"


@dataclass(frozen=True)
class Run:
    """One training run on disk.

    Its folder holds ``config.json``, ``weights.safetensors``, ``history.csv`` and ``card.json``,
    where it has a close look also ``outliner/``; later ``predictions/`` and ``evaluation/``.
    """

    folder: Path

    @cached_property
    def config(self) -> TrainConfig:
        """What the run was made with."""
        try:
            return TrainConfig.model_validate_json(self._file(CONFIG).read_bytes())
        except ValidationError as error:
            raise RunError(
                f"the run folder {self.folder.name} was made by another version of medlib "
                f"({error.error_count()} of its choices are not known, or out of range): make the "
                "run again"
            ) from error

    @cached_property
    def card(self) -> dict[str, Any]:
        """The evidence card; see `medlib.baseline.card`."""
        try:
            return dict(json.loads(self._file(CARD).read_bytes()))
        except ValueError as error:  # cut short, or edited
            raise RunError(
                f"the run folder {self.folder.name} has a {CARD} that is no JSON: restore it, or "
                "make the run again"
            ) from error

    @cached_property
    def history(self) -> pd.DataFrame:
        """The training curves; see `medlib.baseline.train.Trained`."""
        return pd.read_csv(self._file(HISTORY))

    def load_network(self) -> ForInference:
        """Return the trained network, ready for inference and for nothing else."""
        network = load_weights(self.config, self._file(WEIGHTS))
        return ForInference(without_normalisation(network))

    def load_outliner(self) -> Model | None:
        """Return the network of the close look, where the run has one: a run in its folder."""
        inner = Run(self.folder / OUTLINER)
        return Model(inner.load_network(), inner.config) if inner.folder.is_dir() else None

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights, the outliner's behind them: which model this is."""
        outliner = self.folder / OUTLINER / WEIGHTS
        behind = outliner.read_bytes() if outliner.is_file() else b""
        return hashlib.sha256(self._file(WEIGHTS).read_bytes() + behind).hexdigest()

    def model_key(self) -> str:
        """Return the digest of all that its answers rest on, code apart: weights and choices."""
        outliner = self.folder / OUTLINER / CONFIG
        choices = [outliner.read_bytes()] if outliner.is_file() else []
        return digest(self.weights_sha256(), self.config.model_dump_json(), *choices)

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise RunError(
                f"the run folder {self.folder.name} has no {name}: delete the folder and run again"
            )
        return path
