"""Gates in a drilled training, at which its processes can be held while a fault befalls them or others.

Python imports this file first in each process whose PYTHONPATH has its folder. It changes nothing of a training; it
notes at which step each worker is, and has the one that an order names wait until the order is gone.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from pathlib import Path

PLACE = "GAPCTL_DRILL_GATE"
LOOK_SECONDS = 0.02


class Gate:
    """The orders and notes in a folder: `order-TRIAL.json`, `reached.json` and `worker-RANK.json`."""

    def __init__(self, folder: str) -> None:
        self._folder, self._step, self._trial, self._saving = Path(folder), 0, "", False

    def enter(self, moment: str) -> None:
        """Notes the moment, and waits if an order is for this worker and for this moment or an earlier step's."""
        rank = int(os.environ.get("RANK", "0"))
        note = {"pid": os.getpid(), "rank": rank, "step": self._step, "moment": moment, "trial": self._trial}
        self._write(f"worker-{rank}.json", note)
        order = self._folder / f"order-{self._trial}.json"
        wanted = self._read(order)
        if wanted is None or wanted["moment"] != moment or wanted["step"] > self._step:
            return
        if wanted["rank"] % int(os.environ.get("WORLD_SIZE", "1")) != rank:
            return
        self._write("reached.json", note)
        while self._read(order) == wanted:
            time.sleep(LOOK_SECONDS)

    def patch_trainer(self, module) -> None:
        take_step = module.PackedTrials.step

        def step(packed) -> None:
            member = packed.members[0]
            self._step, self._trial = member.steps, member._store.trial_id
            self.enter("step")
            take_step(packed)

        module.PackedTrials.step = step

    def patch_trial_state(self, module) -> None:
        evaluate = module.TrialState.evaluate

        def evaluate_in_gate(member) -> None:
            self._step, self._trial = member.steps, member._store.trial_id
            if member.leads:
                self.enter("evaluation")
            evaluate(member)

        module.TrialState.evaluate = evaluate_in_gate

    def patch_trial(self, module) -> None:
        save, sync = module.TrialFolder.save_checkpoint, os.fsync

        def save_in_gate(folder, samples_seen: int, content: bytes) -> None:
            self._saving = True
            try:
                save(folder, samples_seen, content)
            finally:
                self._saving = False

        def sync_in_gate(file: int) -> None:
            sync(file)
            if self._saving:
                self._saving = False
                self.enter("checkpoint")  # its bytes are written, and not yet in place

        module.TrialFolder.save_checkpoint = save_in_gate
        os.fsync = sync_in_gate

    def _write(self, name: str, content: dict) -> None:
        part = self._folder / f".{name}.{os.getpid()}"
        part.write_text(json.dumps(content))
        part.replace(self._folder / name)

    def _read(self, path: Path) -> dict | None:
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None


class Patches(importlib.abc.MetaPathFinder):
    """Patches modules once they are imported."""

    def __init__(self, gate: Gate) -> None:
        self._patches = {
            "gapctl.training.trainer": gate.patch_trainer,
            "gapctl.training.trial_state": gate.patch_trial_state,
            "gapctl.ledger.trial": gate.patch_trial,
        }

    def find_spec(self, name, path=None, target=None):
        patch = self._patches.pop(name, None)
        if patch is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_patch(module) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = execute_and_patch
        return spec


if PLACE in os.environ:
    sys.meta_path.insert(0, Patches(Gate(os.environ[PLACE])))
