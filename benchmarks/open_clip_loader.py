"""open_clip's own loader on shards: the peer of `feed.py`, which runs it in an environment of its own.

    python open_clip_loader.py SHARDS SIZE BATCH BATCHES

Prints samples per second of processor time, of this process and the one that reads, after a first few batches. Its
`get_wds_dataset` needs webdataset before 0.2.90.
"""

import multiprocessing
import os
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform
from open_clip_train.data import get_wds_dataset

WARM: Final = 4


def main() -> None:
    """One process of its own reads, as with `--workers 1`."""
    shards, size, batch, batches = sys.argv[1], *map(int, sys.argv[2:])
    arguments = SimpleNamespace(
        train_data=shards,
        val_data=None,
        dataset_resampled=True,
        train_num_samples=batch * (batches + WARM + 1),
        train_data_upsampling_factors=None,
        val_num_samples=None,
        seed=0,
        batch_size=batch,
        workers=1,
        world_size=1,
    )
    loader = get_wds_dataset(
        arguments, image_transform(size, is_train=True), is_train=True, tokenizer=SimpleTokenizer()
    ).dataloader
    found = iter(loader)
    for _ in islice(found, WARM):
        pass
    began = processor_seconds()
    samples = sum(len(images) for images, _ in islice(found, batches))
    print(samples / (processor_seconds() - began))


def processor_seconds() -> float:
    """Of this process and its children; those that run are known to the system alone."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
