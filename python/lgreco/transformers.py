"""Compressed gradients in Transformers' Trainer: `LGreCoTrainer` in the place of `Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from lgreco.compression import Compression
from lgreco.frontends.figures import Figures
from lgreco.frontends.request import Request, load_state
from lgreco.methods import Level
from lgreco.policies import LGreCo, Policy
from lgreco.run_log import RunLog

STATE_FILE = "lgreco.pt"  # in checkpoints
PLANS = LGreCo()


class LGreCoTrainerMixin:
    """To stand before `Trainer`, or one of its subclasses, among the bases of a class.

    The model is compressed when training begins, with the accelerator's own scaler. Checkpoints
    hold the compression's state in `lgreco.pt`, which `train(resume_from_checkpoint=...)` loads on
    any number of ranks; without that file compression starts anew. Figures of rank 0 are logged
    beside the loss, as `lgreco/...`.

    Args:
        method: the reference level, such as "low_rank:4" or `lgreco.PowerSGD(rank=4)`.
        policy: as in `lgreco.compress()`, but `lgreco.LGreCo()` unless given.
        exact_checkpoints: checkpoints hold all ranks' states, and resume bit for bit, instead of
            one state that the ranks share.
        run_log: a file for `lgreco report`, with the losses that are logged and what evaluations
            find; `train()` overwrites it.
        compression_settings: further keywords of `lgreco.compress()`.
        arguments: of the Trainer.
    """

    def __init__(
        self,
        *positional: Any,
        method: Level = "low_rank:4",
        policy: Policy | None = PLANS,
        exact_checkpoints: bool = False,
        run_log: str | Path | None = None,
        compression_settings: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(*positional, **arguments)
        request = Request(method, policy, exact_checkpoints, compression_settings or {})
        self._lgreco = _Compressing(self, request, run_log)
        self.add_callback(self._lgreco)  # type: ignore[attr-defined]

    @property
    def compression(self) -> Compression | None:
        """Of the newest `train()`; None before it has wrapped the model."""
        return self._lgreco.compression

    def train(self, resume_from_checkpoint: Any = None, *others: Any, **arguments: Any) -> Any:
        if resume_from_checkpoint is True:
            folder: Any = self.args.output_dir  # type: ignore[attr-defined]
            resume_from_checkpoint = get_last_checkpoint(folder) or True
        self._lgreco.resume_from = resume_from_checkpoint or None
        return super().train(  # type: ignore[misc]
            resume_from_checkpoint, *others, **arguments
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._lgreco.figures is not None and "loss" in logs:
            logs = {**logs, **self._lgreco.figures()}
        super().log(logs, start_time)  # type: ignore[misc]


class LGreCoTrainer(LGreCoTrainerMixin, Trainer):
    """Transformers' Trainer with compressed gradients."""


class _Compressing(TrainerCallback):
    """What is done when a Trainer begins, when it has saved, and when it logs."""

    def __init__(self, trainer: Any, request: Request, run_log: str | Path | None) -> None:
        self._trainer = trainer
        self._request = request
        self._path = run_log
        self._log: RunLog | None = None
        self.figures: Figures | None = None
        self._model: object = None  # that `compression` compresses
        self.compression: Compression | None = None
        self.resume_from: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The model is wrapped, and what the Trainer itself saves is loaded."""
        model = self._trainer.model_wrapped
        if model is not self._model:  # which a second train() wraps no more
            self._model = model
            self.compression = self._request.compress(model, self._trainer.accelerator.scaler)
        file = Path(self.resume_from or "") / STATE_FILE
        if self.compression is not None and self.resume_from is not None and file.is_file():
            load_state(self.compression, torch.load(file, weights_only=True))
        assert self.compression is not None
        self.figures = Figures(self.compression)
        if self._path is not None:
            path = self._path if state.is_world_process_zero else None
            self._log = RunLog(path, compression=self.compression)

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Called on every rank."""
        if self.compression is None or args.save_only_model or state.is_hyper_param_search:
            return
        saved = self._request.state_of(self.compression)
        if saved is not None and args.should_save:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            torch.save(saved, folder / STATE_FILE)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if self._log is not None and logs and "loss" in logs:
            self._log.step(logs["loss"], step=state.global_step)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **others: Any
    ) -> None:
        if self._log is not None and state.global_step:
            figures = {name.removeprefix("eval_"): f for name, f in (metrics or {}).items()}
            self._log.evaluate(**{n: f for n, f in figures.items() if isinstance(f, float)})

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self._log is not None:
            self._log.end()
