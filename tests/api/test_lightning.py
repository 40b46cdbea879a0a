"""The Lightning callback, with real trainers: what it logs is the gap of the whole validation set."""

import math

import numpy as np
import pytest
import torch

import gapctl

lightning = pytest.importorskip("lightning.pytorch")

from gapctl.lightning import GapCallback  # noqa: E402  (it needs Lightning)

ROWS, WIDTH, BATCH = 50, 8, 16


class TwoTowers(lightning.LightningModule):
    """Two linear towers; `names` are those of the embeddings that validation returns."""

    def __init__(self, names: tuple[str, str] | None = ("image_features", "text_features")) -> None:
        super().__init__()
        self.image, self.text, self.names = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH), names

    def training_step(self, batch, index):
        return (self.image(batch[0]) - self.text(batch[1])).square().mean()

    def validation_step(self, batch, index):
        if self.names is None:
            return None
        return dict(zip(self.names, (self.image(batch[0]), self.text(batch[1])), strict=True))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def make_loader() -> torch.utils.data.DataLoader:
    generator = torch.Generator().manual_seed(0)
    pairs = torch.utils.data.TensorDataset(
        torch.randn(ROWS, WIDTH, generator=generator), torch.randn(ROWS, WIDTH, generator=generator)
    )
    return torch.utils.data.DataLoader(pairs, BATCH)


def make_trainer(folder, callback) -> "lightning.Trainer":
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[callback],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )


def test_a_trainer_logs_the_gap_of_the_whole_validation_set(tmp_path):
    module, loader = TwoTowers(), make_loader()
    trainer = make_trainer(tmp_path, GapCallback())
    trainer.fit(module, loader, loader)
    images, texts = loader.dataset.tensors
    with torch.no_grad():
        expected = gapctl.measure(module.image(images), module.text(texts))
    for key in ("gap/rmg", "gap/l2m", "geometry/alignment"):
        assert math.isclose(float(trainer.logged_metrics[key]), expected[key], rel_tol=1e-5)


def test_names_and_prefix_are_the_users(tmp_path):
    module, loader = TwoTowers(("x", "y")), make_loader()
    trainer = make_trainer(tmp_path, GapCallback("x", "y", prefix="val/"))
    trainer.validate(module, loader, verbose=False)
    assert np.isfinite(float(trainer.logged_metrics["val/gap/rmg"]))


def test_each_validation_is_measured_alone(tmp_path):
    module, loader, callback = TwoTowers(), make_loader(), GapCallback()
    trainer = make_trainer(tmp_path, callback)
    trainer.validate(module, loader, verbose=False)
    first = float(trainer.logged_metrics["gap/rmg"])
    trainer.validate(module, loader, verbose=False)
    assert float(trainer.logged_metrics["gap/rmg"]) == first


@pytest.mark.parametrize("names", [None, ("loss", "accuracy")])
def test_a_step_without_embeddings_is_explained(tmp_path, names):
    trainer = make_trainer(tmp_path, GapCallback())
    with pytest.raises(gapctl.InputError, match="expected a mapping with 'image_features' and 'text_features'"):
        trainer.validate(TwoTowers(names), make_loader(), verbose=False)
