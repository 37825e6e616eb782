"""The callbacks of PyTorch Lightning, Keras and Transformers, by the libraries themselves, on a line to be fitted."""

import logging
import os
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch, which is not installed here")
os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.slow
INPUTS = torch.linspace(-1, 1, 32).reshape(-1, 1)
TARGETS = 2 * INPUTS


def lightning_fit(epochs: int, callback: Any, also: Any = None, *, every: int = 1) -> Any:
    """Fit a line; ``also`` is called with the number of each batch. Every so many epochs are validated."""
    import lightning.pytorch as lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Line(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def loss(self, batch: Any, name: str) -> Any:
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log(name, loss, on_step=False, on_epoch=True)
            return loss

        def training_step(self, batch: Any, index: int) -> Any:
            if also:
                also(self.trainer.global_step)
            return self.loss(batch, "loss")

        def validation_step(self, batch: Any, index: int) -> None:
            self.loss(batch, "val_loss")

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, check_val_every_n_epoch=every,
        )  # fmt: skip
        data = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=8)
        trainer.fit(Line(), data, data, ckpt_path=callback.checkpoint)
    return trainer


@pytest.fixture
def lightning_callback() -> Any:
    pytest.importorskip("lightning.pytorch", reason="needs lightning, which is not installed here")
    from katib_flow.callbacks.lightning import KatibFlowCallback

    return KatibFlowCallback


def test_lightning_reports_each_epoch_once(around: Any, lightning_callback: Any) -> None:
    lightning_fit(3, lightning_callback())
    assert around.steps("loss") == [1, 2, 3]
    assert around.steps("val_loss") == [1, 2, 3]
    values = [report["metrics"]["val_loss"] for report in around.reports if "val_loss" in report["metrics"]]
    assert values == sorted(values, reverse=True)


def test_lightning_reports_no_value_of_an_earlier_validation_again(around: Any, lightning_callback: Any) -> None:
    lightning_fit(4, lightning_callback(), every=2)
    assert around.steps("loss") == [1, 2, 3, 4]
    assert around.steps("val_loss") == [2, 4]


def test_lightning_ends_at_the_next_batch(around: Any, lightning_callback: Any) -> None:
    trainer = lightning_fit(50, lightning_callback(), lambda step: around.ask_to_stop() if step == 5 else None)
    assert trainer.global_step == 6
    assert around.steps("loss") == [1]


def test_lightning_goes_on_from_the_parents_checkpoint(
    around: Any, lightning_callback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = lightning_fit(4, lightning_callback())
    assert lightning_callback().checkpoint is None
    lightning_fit(2, lightning_callback(checkpoints=True))
    child = around.of_child(monkeypatch)
    trainer = lightning_fit(4, lightning_callback(checkpoints=True))
    assert child.steps("val_loss") == [3, 4]
    assert (trainer.current_epoch, trainer.global_step) == (straight.current_epoch, straight.global_step)
    assert [path.name for path in (child.directory / "checkpoint").iterdir()] == ["epoch-000004.ckpt"]


def keras_fit(epochs: int, callback: Any, also: Any = None) -> Any:
    import keras

    class Also(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if also:
                also(int(self.model.optimizer.iterations))

    if callback.checkpoint:
        model = keras.saving.load_model(callback.checkpoint)
    else:
        model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    data = INPUTS.numpy(), TARGETS.numpy()
    model.fit(
        *data, batch_size=8, epochs=epochs, initial_epoch=callback.epochs, validation_data=data,
        callbacks=[Also(), callback], verbose=0,
    )  # fmt: skip
    return model


@pytest.fixture
def keras_callback() -> Any:
    pytest.importorskip("keras", reason="needs keras, which is not installed here")
    from katib_flow.callbacks.keras import KatibFlowCallback

    return KatibFlowCallback


def test_keras_reports_each_epoch(around: Any, keras_callback: Any) -> None:
    keras_fit(3, keras_callback())
    assert [(report["step"], set(report["metrics"])) for report in around.reports] == [
        (step, {"loss", "val_loss"}) for step in (1, 2, 3)
    ]


def test_keras_ends_at_the_next_batch(around: Any, keras_callback: Any) -> None:
    model = keras_fit(50, keras_callback(), lambda batch: around.ask_to_stop() if batch == 5 else None)
    assert int(model.optimizer.iterations) == 6
    assert around.steps("loss") == [1]


def test_keras_goes_on_from_the_parents_model(
    around: Any, keras_callback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_fit(2, keras_callback(checkpoints=True))
    child = around.of_child(monkeypatch)
    model = keras_fit(4, keras_callback(checkpoints=True))
    assert child.steps("val_loss") == [3, 4]
    assert int(model.optimizer.iterations) == 16


def transformers_fit(epochs: int, callback: Any, also: Any = None) -> Any:
    import transformers

    import katib_flow as kf

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": torch.nn.functional.mse_loss(self.layer(x), labels), "logits": labels}

    class Also(transformers.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if also:
                also(state.global_step)

    rows = [{"x": x, "labels": y} for x, y in zip(INPUTS, TARGETS, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(kf.checkpoint_dir()), num_train_epochs=epochs, per_device_train_batch_size=8, report_to="none",
        eval_strategy="epoch", save_strategy="epoch", logging_strategy="epoch", disable_tqdm=True, use_cpu=True,
        learning_rate=0.1,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=Line(), args=arguments, train_dataset=rows, eval_dataset=rows, callbacks=[Also(), callback]
    )
    trainer.train(resume_from_checkpoint=callback.checkpoint)
    return trainer


@pytest.fixture
def transformers_callback(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("transformers", "accelerate"):
        pytest.importorskip(name, reason=f"needs {name}, which is not installed here")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from katib_flow.callbacks.transformers import KatibFlowCallback

    return KatibFlowCallback


def test_transformers_reports_what_the_trainer_logs(around: Any, transformers_callback: Any) -> None:
    transformers_fit(2, transformers_callback())
    assert around.steps("loss") == [4, 8]
    assert around.steps("eval_loss") == [4, 8]
    assert around.steps("train_loss") == [8]


def test_transformers_ends_at_the_next_step(around: Any, transformers_callback: Any) -> None:
    trainer = transformers_fit(50, transformers_callback(), lambda step: around.ask_to_stop() if step == 5 else None)
    assert trainer.state.global_step == 6


def test_transformers_goes_on_from_the_parents_checkpoint(
    around: Any, transformers_callback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers_fit(2, transformers_callback())
    child = around.of_child(monkeypatch)
    trainer = transformers_fit(3, transformers_callback())
    assert child.steps("eval_loss") == [12]
    assert trainer.state.global_step == 12
