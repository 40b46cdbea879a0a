"""Weights as other programs write them are taken where they fit; other files are named for what they are."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.overrides import TorchFunctionMode

from gapctl.errors import InputError
from gapctl.inference.model import load_open_clip_model, load_weights
from gapctl.models.sources import find_or_download_weights
from tiny_models import TINY_RESNET, TINY_VIT, write_model

MODEL = "ViT-S-32-alt"


class Small(nn.Module):
    """A model with names as open_clip's have, small enough to be written often."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.randn(()))
        self.visual = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        self.transformer = nn.Linear(2, 2)
        self.positional_embedding = nn.Parameter(torch.randn(4, 2))

    def forward(self, row_B3: torch.Tensor) -> torch.Tensor:
        return self.logit_scale * self.transformer(self.visual(row_B3)).sum() + self.positional_embedding.sum()


class Trained(nn.Module):
    """A training program's module, as Lightning's: it holds a model, and perhaps more than that."""

    def __init__(self, model: nn.Module, **more: nn.Module) -> None:
        super().__init__()
        self.model = model
        for name, module in more.items():
            setattr(self, name, module)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    return tmp_path


def averaged(model: nn.Module) -> nn.Module:
    found = AveragedModel(model)
    found.update_parameters(model)
    return found


def other() -> dict[str, torch.Tensor]:
    return Small().state_dict()


# How a training program writes a model, and what a person is told of it.
WRITTEN: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "plain": (lambda model: model.state_dict(), ""),
    "open_clip": (
        lambda model: {"epoch": 3, "name": "x", "state_dict": model.state_dict(), "optimizer": {"state": {}}},
        "state_dict",
    ),
    "compiled": (lambda model: torch.compile(model).state_dict(), "less _orig_mod. (torch.compile)"),
    "a compiled part": (
        lambda model: {name.replace("visual.", "visual._orig_mod."): each for name, each in model.state_dict().items()},
        "less _orig_mod. (torch.compile)",
    ),
    "of several processes": (
        lambda model: {"state_dict": nn.DataParallel(model).state_dict()},
        "state_dict, less module. (DistributedDataParallel or AveragedModel)",
    ),
    "compiled, of several processes": (
        lambda model: nn.DataParallel(torch.compile(model)).state_dict(),  # type: ignore[arg-type]
        "less _orig_mod. (torch.compile) and module. (DistributedDataParallel or AveragedModel)",
    ),
    "averaged": (
        lambda model: averaged(model).state_dict(),
        "less module. (DistributedDataParallel or AveragedModel)",
    ),
    "Lightning's": (
        lambda model: {
            "pytorch-lightning_version": "2.5",
            "global_step": 7,
            "state_dict": Trained(model, criterion=nn.Linear(1, 1)).state_dict(),
            "optimizer_states": [{}],
            "hyper_parameters": {"lr": 1e-3},
        },
        "state_dict, less model. (a module that holds the model)",
    ),
    "Lightning's, compiled": (
        lambda model: {"state_dict": Trained(torch.compile(model)).state_dict()},  # type: ignore[arg-type]
        "state_dict, less _orig_mod. (torch.compile) and model. (a module that holds the model)",
    ),
    "model_state_dict": (lambda model: {"model_state_dict": model.state_dict(), "epoch": 1}, "model_state_dict"),
    "model": (lambda model: {"model": model.state_dict(), "optimizer": {"state": {0: {"exp_avg": other()}}}}, "model"),
    "net": (lambda model: {"net": model.state_dict(), "acc": 0.5}, "net"),
    "DeepSpeed's": (lambda model: {"module": model.state_dict(), "dp_world_size": 8}, "module"),
    "Composer's": (
        lambda model: {"state": {"model": nn.DataParallel(model).state_dict(), "seed": 1}},
        "state.model, less module. (DistributedDataParallel or AveragedModel)",
    ),
    "an average alone": (lambda model: {"ema": model.state_dict(), "step": 10}, "ema"),
    "beside its average": (lambda model: {"ema": other(), "model": model.state_dict()}, "model"),
    "beside an average of its own name": (
        lambda model: {"state_dict_ema": other(), "weights": model.state_dict()},
        "weights",
    ),
    "of a module that keeps an average": (
        lambda model: {"state_dict": Trained(model, model_ema=Small()).state_dict()},
        "state_dict, less model. (a module that holds the model)",
    ),
    "beside numbers": (lambda model: {**model.state_dict(), "epoch": 3}, ""),
    "FSDP's": (
        lambda model: {f"_fsdp_wrapped_module.{name}": each for name, each in model.state_dict().items()},
        "less _fsdp_wrapped_module. (FSDP)",
    ),
}


@pytest.mark.parametrize("writer", WRITTEN)
def test_weights_are_taken_as_they_were_written(writer: str) -> None:
    write, origin = WRITTEN[writer]
    model, read = Small(), Small()
    torch.save(write(model), "made.pt")

    assert load_weights(read, "small", Path("made.pt")) == origin
    for name, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)


@pytest.mark.parametrize("name", ["made.safetensors", "pytorch_model.bin"])
def test_safetensors_are_taken_under_any_name(name: str) -> None:
    model, read = Small(), Small()
    save_file({f"module.{key}": value for key, value in model.state_dict().items()}, name)

    load_weights(read, "small", Path(name))

    assert torch.equal(read.positional_embedding, model.positional_embedding)


def torchscript(path: Path) -> None:
    with pytest.warns(match="deprecated"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)  # type: ignore[no-untyped-call]


def transformers(prefix: str) -> Callable[[Path], None]:
    names = ["text_model.final_layer_norm.weight", "vision_model.embeddings.class_embedding", "logit_scale"]
    return lambda path: save_file({f"{prefix}{name}": torch.ones(2) for name in names}, path)


def index(path: Path) -> None:
    files = {name: f"model-0000{place}-of-00002.safetensors" for place, name in enumerate(Small().state_dict(), 1)}
    path.write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": files}))


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), path)


# A file that is none of ours, under its usual name, and the words for it.
FOREIGN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "TorchScript": ("ViT-B-32.pt", torchscript, "a TorchScript archive, as OpenAI publishes ViT-B-32.pt"),
    "transformers": ("model.safetensors", transformers(""), "a model of Hugging Face's transformers, not a model of"),
    "transformers in another": ("a.safetensors", transformers("clip."), "a model of Hugging Face's transformers"),
    "a whole model": ("model.pt", lambda path: torch.save(nn.Linear(2, 2), path), "torch.nn.modules.linear.Linear"),
    "a whole model of old": (
        "old.pth",
        lambda path: torch.save(Small(), path, _use_new_zipfile_serialization=False),
        "which are never loaded; expected tensors by name",
    ),
    "an index": ("model.safetensors.index.json", index, "the index of a model in 8 files (model-00001-of-00002"),
    "settings": ("config.json", lambda path: path.write_text('{"embed_dim": 512}'), "a JSON file, not weights by name"),
    "ONNX": ("m.onnx", lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch\x1a"), "an ONNX model, not weights"),
    "ONNX under another name": ("m", lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"), "an ONNX model"),
    "GGUF": ("m.gguf", lambda path: path.write_bytes(b"GGUF\x03\0\0\0" + bytes(64)), "a GGUF file of llama.cpp"),
    "Keras": ("m.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "an HDF5 file of Keras"),
    "JAX": ("m.npz", lambda path: np.savez(path, kernel=np.ones(2)), "a numpy archive, as JAX's models are"),
    "torch.export": ("m.pt2", exported, "a program of torch.export"),
    "Git LFS": (
        "m.safetensors",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "a pointer of Git LFS, which stands for the file",
    ),
    "a web page": ("m.pt", lambda path: path.write_text("<!DOCTYPE html><html></html>"), "a web page, not weights"),
    "compressed": ("m.pt.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08\0" + bytes(64)), "a compressed file"),
    "adapters": (
        "adapter_model.safetensors",
        lambda path: save_file({"base_model.model.visual.0.lora_A.weight": torch.ones(2, 2)}, path),
        "adapters (LoRA), which stand beside a model's weights",
    ),
    "a list": ("m.pt", lambda path: torch.save([torch.ones(2)], path), "no weights by name in it, but a list"),
    "words": (
        "m.pt",
        lambda path: torch.save({"state_dict": {"a": 1}}, path),
        "values that are no tensors under state_dict",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FOREIGN)
def test_another_file_is_named_for_what_it_is(kind: str) -> None:
    name, make, words = FOREIGN[kind]
    make(Path(name))

    with pytest.raises(InputError) as told:
        load_weights(Small(), "small", Path(name))

    assert str(told.value).startswith(f"{name}: ") or name in str(told.value)
    assert words in str(told.value)
    assert "weights_only" not in str(told.value)


def test_a_folder_is_answered_with_the_files_in_it() -> None:
    Path("snapshot").mkdir()
    with pytest.raises(InputError, match="a folder; expected a file of weights, and it holds none"):
        find_or_download_weights(MODEL, "snapshot")
    Path("snapshot/open_clip_model.safetensors").touch()
    with pytest.raises(InputError, match=r"expected one of the files in it \(open_clip_model\.safetensors\)"):
        find_or_download_weights(MODEL, "snapshot")


def test_what_is_missing_is_told_of_the_part_that_was_read() -> None:
    torch.save({"model": {f"_orig_mod.{name}": each for name, each in [("logit_scale", torch.ones(()))]}}, "made.pt")

    with pytest.raises(InputError) as told:
        load_weights(Small(), "small", Path("made.pt"))

    assert str(told.value).startswith(
        "made.pt (model, less _orig_mod. (torch.compile)): a checkpoint of another architecture than small; missing: "
    )
    assert "not in the model" not in str(told.value)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


class Drawing(TorchFunctionMode):
    """Counts the calls that fill a tensor with random numbers."""

    drawn = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.drawn += getattr(func, "__name__", "") in ("normal_", "uniform_")
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET])
def test_a_model_is_opened_with_the_weights_of_its_file_and_draws_none(folder: Path, config: dict[str, Any]) -> None:
    name = f"local-dir:{write_model(folder / 'model', config)}"
    with Drawing() as built:
        open_clip.create_model(name, load_weights=False)
    with Drawing() as opened:
        model = load_open_clip_model(name, find_or_download_weights(name, None)).model

    assert built.drawn > 20
    assert opened.drawn == 0
    written = load_file(folder / "model" / "open_clip_model.safetensors")
    assert model.state_dict().keys() - written.keys() <= {"attn_mask"}
    assert all(torch.equal(model.state_dict()[key], value) for key, value in written.items())


@pytest.mark.usefixtures("quiet")
def test_a_tower_of_a_real_model_is_not_taken_for_the_other() -> None:
    """Both of CLIP's have a transformer of the same names."""
    state = open_clip.create_model(MODEL).state_dict()
    torch.save({f"model.{key}": value for key, value in state.items() if key.startswith("visual.")}, "image.pt")

    with pytest.raises(InputError) as told:
        load_weights(open_clip.create_model(MODEL), MODEL, Path("image.pt"))

    assert "missing: positional_embedding, text_projection, logit_scale, transformer." in str(told.value)
    assert "not in the model" not in str(told.value)
