"""The sweep of the drill: its file, its plan, and its command, which is given again whenever it ended too early."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from drill.processes import signalled
from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep
from gapctl.plan.plan import Plan, make_plan

SWEEP = """\
name: {name}
question: Does a sweep keep its numbers whatever happens to its cluster?
base:
  model: {{preset: mad-tiny, embed_dim: 64}}
  train: {{samples: {samples}, batch_size: 128}}
  evaluate: {{every: {every}, gallery: 64}}
vary:
  data.captions.attributes: [0, 5]
seeds: {seeds}
hypotheses:
  - id: gap
    claim: Captions that say everything give another gap than captions that name the digit alone.
    test: contrast
    response: gap/rmg
    factor: data.captions.attributes
    between: [0, 5]
    direction: either
    smallest_effect: 0.02
"""
EVALUATIONS = 4
SHARED_SWEEP = """\
name: {name}
question: Does a training on several workers keep its numbers whatever happens to them?
base:
  data: {{dataset: image_text, source: bundled}}
  model: {{preset: pairs-small, embed_dim: 32}}
  train: {{samples: {samples}, batch_size: 32, precision: float32, lr: 0.0003}}
  evaluate: {{every: {every}, gallery: 40}}
vary:
  data.captions.keep: [full, half]
seeds: {seeds}
hypotheses:
  - id: gap
    claim: Full captions give another gap than half of their words.
    test: contrast
    response: gap/rmg
    factor: data.captions.keep
    between: [half, full]
    direction: either
    smallest_effect: 0.02
"""
"""Of image-text pairs, whose batches are dealt to several workers.

Other numbers of workers add in another order. With this precision and rate that stays a matter of 1e-6 for 400 steps.
In bfloat16 at the usual rate it grows to 0.1, with no fault at all.
"""


class DrilledSweep:
    """A sweep of `trials` trainings, an even number, with its ledger at `runs`; `log` has what its commands say."""

    def __init__(
        self,
        folder: Path,
        name: str,
        runs: str,
        tracking: str,
        trials: int,
        samples: int,
        text: str = SWEEP,
        evaluations: int = EVALUATIONS,
    ) -> None:
        self.name, self.file, self.log = name, folder / f"{name}.yaml", folder / f"{name}.log"
        self.file.write_text(text.format(name=name, samples=samples, every=samples // evaluations, seeds=trials // 2))
        self.runs, self._tracking, self.workers = runs, tracking, 1
        self.plan: Plan = make_plan(load_sweep(self.file, None, ()), compute_data_source_fingerprint)
        self.ids = [trial.id for trial in self.plan.trials]
        self.process: subprocess.Popen[bytes] | None = None
        self.commands = 0

    def start(self, address: str, environment: Mapping[str, str]) -> None:
        """Gives the command."""
        self.commands += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self._command("sweep"), "--set", f"resources.workers={self.workers}", "--address", address],
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def code(self) -> int | None:
        """The exit code of the last command, or None while it runs."""
        return None if self.process is None else self.process.poll()

    def sync(self) -> str:
        """What `gapctl track sync` answers."""
        done = subprocess.run(self._command("track", "sync"), capture_output=True, text=True, timeout=600, check=False)
        return (done.stdout + done.stderr).strip()

    def _command(self, *verb: str) -> list[str]:
        places = ["--runs", self.runs, "--set", f"tracking.uri={self._tracking}"]
        return [sys.executable, "-m", "gapctl", *verb, str(self.file), *places]


def kill_sweeps(*sweeps: DrilledSweep) -> None:
    """End the commands that still run, by `kill -9`."""
    for sweep in sweeps:
        if sweep.process is not None and sweep.process.poll() is None:
            signalled([sweep.process.pid], signal.SIGKILL)
            sweep.process.wait()
