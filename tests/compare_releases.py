"""Compare what two commits of gapctl print and compute, byte for byte, on the published ledger.

Run it before and after a refactoring, from the repository's root:

    python tests/compare_releases.py --base REV           # plans, verdicts, reports, the schema
    python tests/compare_releases.py --base REV --train   # and the metrics of four small trainings, to the last bit

The tour: `main` checks the base commit out beside the working tree. `record_outputs` runs the same commands with either
tree's code, in one folder, one after the other, so that paths are alike. `accept_differences` rewrites the base's
outputs by the rules of `accepted_differences.yaml`, each of which says why it is there. What still differs is printed
as a diff, and the exit code is 1.
"""

import argparse
import difflib
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import yaml

REPOSITORY: Final = Path(__file__).parents[1]
LEDGER: Final = "docs/results/laptop/ledger.tar.xz"
ACCEPTED: Final = Path(__file__).with_name("accepted_differences.yaml")

TRAINED: Final = (("imbalance", 0), ("imbalance", -1), ("rivals", 0), ("cc12m_captions", 0))
"""Trials that `--train` trains at smoke scale: a sweep, and the trial's place in its plan."""

MOST_DIFF_LINES: Final = 40

RUN_VERB: Final = """
import contextlib, io, json, sys
from gapctl.cli.main import run

for line in sys.stdin:
    arguments = json.loads(line)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(arguments)
        except SystemExit as stopped:
            code = stopped.code or 0
    print(json.dumps({"out": out.getvalue(), "err": err.getvalue(), "code": code}), file=sys.__stdout__, flush=True)
"""
"""A loop in a process with one tree's code: a verb's arguments in, what it printed out."""


class AcceptedDifference(NamedTuple):
    """A difference that is meant: in outputs whose name matches, the base's `pattern` reads `becomes`."""

    outputs: str
    pattern: str
    becomes: str
    why: str


class Verbs:
    """A process that runs verbs of one tree's gapctl in a folder."""

    def __init__(self, tree: Path, folder: Path) -> None:
        """Start the process; `tree` is a checkout, `folder` the working folder of all verbs."""
        paths = os.pathsep.join(str(tree / name) for name in ("platform", "dashboards"))
        environment = os.environ | {"PYTHONPATH": paths, "NO_COLOR": "1", "COLUMNS": "120", "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN_VERB],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, *arguments: str) -> dict[str, object]:
        """Run a verb; return its `out`, `err` and `code`. Raise RuntimeError where the process itself ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"gapctl {' '.join(arguments)} ended its process")
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def record_outputs(tree: Path, ledger: Path, *, train: bool) -> dict[str, str]:
    """Return every output by name, with the code of `tree`, in a folder that is emptied first."""
    folder = ledger.parent / "work"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tree / "sweeps", folder / "sweeps")
    shutil.copytree(ledger, folder / "runs")
    verbs = Verbs(tree, folder)
    try:
        outputs = {"schema.json": (tree / "sweeps" / "schema.json").read_text(encoding="utf-8")}
        for file in sorted((folder / "sweeps").glob("*.yaml")):
            outputs |= _record_sweep(verbs, file.relative_to(folder), folder)
        if train:
            for name, place in TRAINED:
                outputs |= _record_training(verbs, Path("sweeps") / f"{name}.yaml", place, folder)
    finally:
        verbs.close()
    return outputs


def _record_sweep(verbs: Verbs, file: Path, folder: Path) -> dict[str, str]:
    """Plan a sweep at each of its scales; judge it, with its report, where the ledger has its trials."""
    outputs: dict[str, str] = {}
    scales = yaml.safe_load((folder / file).read_text(encoding="utf-8")).get("scales") or {}
    for scale in scales:
        outputs[f"plan/{file.stem}.{scale}.json"] = _as_text(verbs.run("plan", str(file), "--scale", scale, "--json"))
    if (folder / "runs" / f"{file.stem}.sweep.json").exists():
        report = folder / "report.html"
        outputs[f"analyze/{file.stem}.json"] = _as_text(verbs.run("analyze", str(file), "--json"))
        verbs.run("analyze", str(file), "--out", str(report))
        outputs[f"report/{file.stem}.html"] = _drop_layout(report.read_text("utf-8")) if report.exists() else ""
        report.unlink(missing_ok=True)
    return outputs


def _record_training(verbs: Verbs, file: Path, place: int, folder: Path) -> dict[str, str]:
    """Train one trial at smoke scale in a ledger of its own; return its metrics, exactly."""
    plan = json.loads(str(verbs.run("plan", str(file), "--scale", "smoke", "--json")["out"]))
    trial = str(plan["trials"][place]["id"])
    verbs.run("train", str(file), "--scale", "smoke", "--trial", trial, "--runs", "trained")
    result = json.loads((folder / "trained" / trial / "result.json").read_text(encoding="utf-8"))
    return {f"train/{file.stem}.{place}.json": json.dumps({"trial": trial, "metrics": result["metrics"]}, indent=1)}


def _drop_layout(page: str) -> str:
    """Drop line breaks between tags and spaces at the end of paragraphs: no browser shows them."""
    return re.sub(r">\s*\n\s*<", "><", page).replace(" </p>", "</p>")


def _as_text(answer: Mapping[str, object]) -> str:
    """Write an answer as text; the disk's free bytes are left out, as they change from call to call."""
    text = "\n".join(f"{key}: {answer[key]}" for key in ("code", "err", "out"))
    return re.sub(r'"free": [\d.]+', '"free": 0', text)


def read_accepted() -> list[AcceptedDifference]:
    """Read the reviewed list of differences that are meant."""
    return [AcceptedDifference(**entry) for entry in yaml.safe_load(ACCEPTED.read_text(encoding="utf-8")) or []]


def accept_differences(outputs: Mapping[str, str], accepted: Sequence[AcceptedDifference]) -> dict[str, str]:
    """Rewrite the base's outputs as the accepted differences say."""
    rewritten = dict(outputs)
    for name in rewritten:
        for rule in accepted:
            if fnmatch.fnmatch(name, rule.outputs):
                rewritten[name] = re.sub(rule.pattern, rule.becomes, rewritten[name], flags=re.MULTILINE | re.DOTALL)
    return rewritten


def compare_outputs(base: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield a text for each output of the base that is gone or has changed; new outputs are no difference."""
    for name, before in base.items():
        after = now.get(name)
        if after is None:
            yield f"{name}: is gone"
        elif after != before:
            lines = list(difflib.unified_diff(_lines(before), _lines(after), "base", "now", n=0, lineterm=""))
            yield f"{name}: changed\n" + "\n".join(line[:400] for line in lines[:MOST_DIFF_LINES])


def _lines(text: str) -> list[str]:
    """Lines of at most one tag or JSON value each, so that a diff of a page says which part changed."""
    return re.sub(r"(>|,)(?=[<\"{])", r"\1\n", text).splitlines()


def main() -> int:
    """Compare the working tree with a commit; return 1 where something differs that no rule accepts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD", help="the commit to compare with (HEAD)")
    parser.add_argument("--train", action="store_true", help="train four trials at smoke scale too")
    parser.add_argument("--keep", type=Path, help="a folder in which both sides' outputs are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        tree, ledger = Path(temporary) / "base", Path(temporary) / "ledger"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", tree, options.base], cwd=REPOSITORY, check=True
        )
        try:
            with tarfile.open(tree / LEDGER) as archive:
                archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 has none
                archive.extractall(Path(temporary))
            (Path(temporary) / "laptop").rename(ledger)
            before = record_outputs(tree, ledger, train=options.train)
            after = record_outputs(REPOSITORY, ledger, train=options.train)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=REPOSITORY, check=True)
    if options.keep:
        for side, outputs in (("base", before), ("now", after)):
            for name, text in outputs.items():
                path = options.keep / side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    differences = list(compare_outputs(accept_differences(before, read_accepted()), after))
    print("\n".join(differences))
    print(f"{len(before)} outputs of {options.base} compared, {len(differences)} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
