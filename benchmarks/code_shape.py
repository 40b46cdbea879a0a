"""Count the grain of the package: files, lines, functions, names. Prints one table; holds nobody to it.

python benchmarks/code_shape.py [FOLDER]        # platform/gapctl if none is named
"""

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "platform" / "gapctl"

VERB_LIST: Final = """
    abandon abort accept accumulate acquire add adopt advance aggregate align allocate analyze announce append apply
    ask assemble assert assess assign attach average await backfill balance bar begin bind bootstrap bound bring build
    cache calculate call cancel cast check choose clamp clean clear clip clone close cluster coalesce collect color
    colour combine compare compile complete compose compress compute concatenate conclude configure confirm connect
    consume contain continue convert copy correct count crop cut damage deal declare decode deduce define degrade delete
    denote derive describe detect determine difference disable discard display distribute divide do download drain draw
    drop dump embed emit enable encode end enlarge ensure enter erase escape estimate evaluate exclude execute exit
    expand expect explain export extract fade fetch fill filter find finish fit flatten flip flush fold follow forget
    format forward free gather generate get give go grant group grow guard guess halt handle hash have heartbeat hide
    hold import include index infer initialise initialize insert inspect install intersect intervene invert is iterate
    join judge keep kill label launch lay lead learn leave let lift limit link lint list load locate lock log look make
    map mark mask match mean measure merge mirror miss mix move name need nest normalise normalize note number observe
    omit open order overlap own pack pad paint parse pass patch pause permute pick place plan plot point poll pool
    predict prefetch prepare present preserve prevent print probe process produce project protect prove publish pull
    push put quantize query quote raise rank read rebuild record recover reduce refer refresh refuse register reject
    release reload remember remove rename render renew repeat replace replay report request require rescale reset
    reshard resize resolve respond restart restore resume retry return reuse rewrite round run sample save say scale
    scan schedule score seal search seed select send separate serialise serialize serve set settle shape share shift
    should show shuffle shut sign silence simulate size skip sleep slice smooth sort span spawn split spread stack
    standardise start state step stop store stream strip submit subtract sum summarise summarize supply suppress swap
    sweep synchronise synchronize take tally tell test throw tie tokenise tokenize touch trace track train transform
    translate treat trim try turn undo unite unpack update upload use validate verify visit wait walk warn was watch
    weigh weight widen will wipe withdraw wrap write yield
"""
VERBS: Final = frozenset(VERB_LIST.split())


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method of a module, dunder methods left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            yield node


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell properties, which are nouns, from functions."""
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def import_lines(tree: ast.AST) -> int:
    """Count the lines that import statements take."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes)


def percentile(numbers: Sequence[int], share: float) -> int:
    """Return the value below which `share` of the numbers lie."""
    return sorted(numbers)[min(len(numbers) - 1, int(share * len(numbers)))]


def measure_package(folder: Path) -> dict[str, str]:
    """Return every count by its name."""
    paths = sorted(folder.rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    trees = [ast.parse(text) for text in texts]
    lines = [text.count("\n") for text in texts]
    functions = [function for tree in trees for function in functions_of(tree)]
    lengths = [(function.end_lineno or 0) - function.lineno + 1 for function in functions]
    names = [function.name.strip("_") for function in functions if not is_property(function)]
    first_words = [name.split("_")[0] for name in names]
    classes = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    total = sum(lines)

    def share(count: int, of: int) -> str:
        return f"{100 * count / of:.1f} %"

    return {
        "files": str(len(paths)),
        "lines": f"{total:,}",
        "lines per file, median / p90": f"{statistics.median(lines):.0f} / {percentile(lines, 0.9)}",
        "functions": f"{len(functions):,}",
        "function length, median / p90": f"{statistics.median(lengths):.0f} / {percentile(lengths, 0.9)}",
        "import lines": share(sum(map(import_lines, trees)), total),
        "blank lines": share(sum(len(re.findall(r"^\s*$", text, re.MULTILINE)) for text in texts), total),
        "one-word function names": share(sum("_" not in name for name in names), len(names)),
        "function names that begin with a verb": share(sum(word in VERBS for word in first_words), len(names)),
        "class names used twice": ", ".join(sorted(name for name, count in classes.items() if count > 1)) or "none",
        "uses of Any": str(sum(len(re.findall(r"\bAny\b", text)) for text in texts)),
    }


def main() -> None:
    """Print the table."""
    counts = measure_package(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
    width = max(map(len, counts))
    for name, value in counts.items():
        print(f"{name:{width}}  {value}")


if __name__ == "__main__":
    main()
