"""A model that is watched in open_clip's own evaluation loop: its metrics and ours, of the same embeddings."""

import argparse
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from open_clip_train.train import evaluate

import gapctl
from gapctl.api import accumulators

SIDE, CONTEXT = 16, 8


def make_model() -> open_clip.CLIP:
    """Return a small CLIP whose forward returns a mapping, as open_clip_train builds its models."""
    torch.manual_seed(0)
    tower = {"layers": 1, "width": 32}
    return open_clip.CLIP(
        embed_dim=8,
        vision_cfg={**tower, "image_size": SIDE, "patch_size": 8, "head_width": 16},
        text_cfg={**tower, "heads": 2, "context_length": CONTEXT, "vocab_size": 50},
        output_dict=True,
    )


def make_loader(pairs: int = 20, batch: int = 8) -> torch.utils.data.DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(pairs, 3, SIDE, SIDE, generator=generator)
    texts = torch.randint(1, 50, (pairs, CONTEXT), generator=generator)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, texts), batch)
    loader.num_samples = pairs  # type: ignore[attr-defined]
    return loader


@pytest.mark.parametrize("precision", ["fp32", "amp_bf16"])
def test_the_gap_of_open_clips_evaluation_reaches_the_users_log(precision: str, tmp_path: Any) -> None:
    model, loader = make_model(), make_loader()
    arguments = argparse.Namespace(
        rank=0, local_rank=0, log_local=False, device="cpu", precision=precision, val_frequency=1, zeroshot_frequency=0,
        epochs=1, distributed=False, horovod=False, save_logs=False, wandb=False,
        checkpoint_path=str(tmp_path), imagenet_val=None,
    )  # fmt: skip

    with gapctl.Gap(sync_on_compute=False).watch(model) as gap:
        log = evaluate(model, {"val": SimpleNamespace(dataloader=loader)}, 1, arguments)
    log.update(gap.compute())

    assert "clip_val_loss" in log
    images, texts = loader.dataset.tensors  # type: ignore[attr-defined]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp_bf16"):
        batches = [model(images[rows : rows + 8], texts[rows : rows + 8]) for rows in range(0, 20, 8)]
    joined = [torch.cat([batch[name] for batch in batches]) for name in ("image_features", "text_features")]
    assert log["gap/rmg"] == pytest.approx(gapctl.measure(*joined)["gap/rmg"], rel=1e-9)


@pytest.mark.parametrize("kind", [gapctl.Gap, accumulators.Gap], ids=["torchmetrics", "plain"])
def test_only_evaluated_pairs_are_watched_and_only_within_the_block(kind: Any) -> None:
    model = make_model()
    images, texts = make_loader().dataset.tensors  # type: ignore[attr-defined]
    wrapped = torch.nn.Sequential(model)
    wrapped.module = model  # as DistributedDataParallel holds it
    with torch.inference_mode(), kind().watch(wrapped) as gap:
        model.train()
        model(images, texts)
        model.eval()
        model(image=images)
        model(text=texts)
        expected = model(images[:9], texts[:9])
    with torch.inference_mode():
        model(images, texts)
    measured = gapctl.measure(expected["image_features"], expected["text_features"])
    assert gap.compute()["gap/rmg"] == pytest.approx(measured["gap/rmg"], rel=1e-9)


def test_a_model_that_gives_no_features_is_explained() -> None:
    model = torch.nn.Linear(2, 2).eval()
    with (
        gapctl.Gap().watch(model),
        pytest.raises(gapctl.InputError, match="returned a Tensor; expected"),
    ):
        model(torch.ones(3, 2))
    with pytest.raises(gapctl.InputError, match="`model`: found a int; expected a torch module"), gapctl.Gap().watch(3):
        pass
