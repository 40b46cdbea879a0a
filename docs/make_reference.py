"""Write docs/reference/sweep-file.md and docs/reference/metrics.md from the sweep file's schema and the metric catalog.

`python docs/make_reference.py` writes both pages; `make docs` does so before it builds the site. A test compares the
committed pages with what this script makes. Meanings of keys and formulas lie in docs/reference/texts.yaml.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gapctl.config.metrics import METRICS

REPOSITORY = Path(__file__).parents[1]
PAGES = Path(__file__).parent / "reference"
MADE = "<!-- docs/make_reference.py writes this page. Change docs/reference/texts.yaml, then run `make docs`. -->"
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
ANY_VALUE = ["boolean", "integer", "number", "string"]

Schema = Mapping[str, Any]


class Key(NamedTuple):
    """One key of the sweep file: dotted path, the variant that has it (`dataset: mad`), type, and default as text."""

    path: str
    variant: str
    type: str
    default: str


def write_pages() -> None:
    """Write both pages where they are committed."""
    for name, text in make_pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")


def make_pages() -> dict[str, str]:
    """Return the text of each page by its file name. Raises SystemExit where a text or a key is missing."""
    texts = yaml.safe_load((PAGES / "texts.yaml").read_text(encoding="utf-8"))
    schema = json.loads((REPOSITORY / "sweeps/schema.json").read_text(encoding="utf-8"))
    return {"sweep-file.md": make_sweep_file_page(schema, texts), "metrics.md": make_metrics_page(texts)}


def make_sweep_file_page(schema: Schema, texts: Mapping[str, Any]) -> str:
    """Return the page of all keys of the sweep file, a section for each part of it."""
    keys = list(walk_keys(schema, schema, "", ""))
    check_texts("sweep_file", {key.path for key in keys}, texts["sweep_file"])
    order = list(texts["sweep_file"])
    keys.sort(key=lambda key: order.index(key.path))
    sections: dict[str, list[Key]] = {}
    for key in keys:
        sections.setdefault(name_section(key), []).append(key)
    lines = [
        MADE,
        "",
        "# The sweep file",
        "",
        "Every key of a sweep file, with its type, its default and its meaning. `gapctl plan FILE` checks a file and",
        "says which trainings it asks for. Editors complete keys from [sweeps/schema.json](../../sweeps/schema.json).",
        "Dotted paths are those of `vary`, `--set` and scales: `train.lr` is the key `lr` below `base`, `train`.",
    ]
    described = dict(texts["sections"])
    for section, members in sections.items():
        lines += ["", f"## {section}", ""]
        part = section.strip("`").partition("`")[0]
        if part in described:
            lines += [described.pop(part), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key in members:
            meaning = texts["sweep_file"][key.path]
            lines.append(f"| `{key.path.removeprefix('base.')}` | {key.type} | {key.default} | {meaning} |")
    return "\n".join(lines) + "\n"


def walk_keys(node: Schema, schema: Schema, path: str, variant: str) -> Iterator[Key]:
    """Yield every key below an object of the schema, depth first, in the order of names."""
    required = node.get("required", [])
    for name, declared in node.get("properties", {}).items():
        child = resolve(declared, schema)
        default = "required" if name in required else show_default({**child, **declared})
        here = f"{path}.{name}" if path else name
        has_section = path.startswith("base") and ("properties" in child or "oneOf" in child)
        if not has_section:
            yield Key(here, variant, show_type(child, schema), default)
        inner = resolve(child["items"], schema) if child.get("type") == "array" and "items" in child else child
        prefix = f"{here}[]" if inner is not child else here
        options = [resolve(each, schema) for each in inner.get("oneOf", [inner])]
        yield from merge_options(
            [list(walk_keys(each, schema, prefix, name_variant(each) or variant)) for each in options]
        )
        if isinstance(child.get("additionalProperties"), Mapping):
            yield from walk_keys(resolve(child["additionalProperties"], schema), schema, f"{here}.*", variant)


def resolve(node: Any, schema: Schema) -> dict[str, Any]:
    """Return a node with its reference followed, and with the option of `null` taken away."""
    if not isinstance(node, Mapping):
        return {}
    options = [each for each in node.get("anyOf", []) if each.get("type") != "null"]
    if len(options) == 1:
        return resolve({**{k: v for k, v in node.items() if k != "anyOf"}, **options[0]}, schema)
    if "$ref" in node:
        found = resolve(schema["$defs"][node["$ref"].rsplit("/", 1)[1]], schema)
        return {**found, **{k: v for k, v in node.items() if k != "$ref"}}
    return dict(node)


def name_variant(option: Schema) -> str:
    """Return what tells one option of several: `dataset: mad`, `test: trend`; nothing where there is one."""
    parts = option.get("properties", {})
    for name in ("dataset", "test"):
        if name in parts:
            return f"{name}: {parts[name].get('const') or parts[name]['enum'][0]}"  # former names follow the first
    return next((name for name in ("architecture", "preset") if name in parts), "")


def merge_options(options: list[list[Key]]) -> Iterator[Key]:
    """Yield the keys that most options of a part have alike, without a variant, and then each option's others."""
    common: list[Key] = []
    constant = ""
    for key in options[0]:
        alike = [other for option in options for other in option if other.path == key.path]
        if len(alike) < len(options) or len(options) == 1:
            continue
        kinds = [f"`{other.variant.partition(': ')[2]}`" for other in alike]
        if all(other.type.startswith(kind) for other, kind in zip(alike, kinds, strict=True)):
            default = next((other.default for other in alike if other.default != "required"), "required")
            common.append(Key(key.path, "", ", ".join(kinds), default))
            constant = key.path
        elif 2 * sum(other[2:] == key[2:] for other in alike) > len(alike):
            common.append(key._replace(variant=""))
    yield from common
    known = {(key.path, *key[2:]) for key in common}
    for option in options:
        yield from (key for key in option if key.path != constant and (key.path, *key[2:]) not in known)


def name_section(key: Key) -> str:
    """Return the heading under which a key stands."""
    head, *rest = key.path.split(".")
    part = f"base.{rest[0]}" if head == "base" and rest and rest[0] != "init_from" else head.partition("[]")[0]
    whole = f"`{part}`" if rest or "[]" in head else "The file"
    return f"{whole} with `{key.variant}`" if key.variant else whole


def show_default(node: Schema) -> str:
    """Return a default as the file writes it; nothing where it is a whole part of the file."""
    default = node.get("default")
    if isinstance(default, Mapping) or ("default" not in node):
        return ""
    return "none" if default in (None, "", []) else f"`{json.dumps(default).strip(chr(34))}`"


def show_type(node: Schema, schema: Schema) -> str:
    """Return the type of a value in words."""
    options = node.get("anyOf") or node.get("oneOf") or []
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        is_metric = all("/" in str(value) for value in node["enum"])
        return "[metric](metrics.md)" if is_metric else ", ".join(f"`{value}`" for value in node["enum"])
    if [option.get("type") for option in options] == ANY_VALUE:
        return "number, text, `true` or `false`"
    if options and "enum" in options[0]:
        return show_names(options[0]["enum"])
    if options and node.get("type") is None:
        return " or ".join(dict.fromkeys(show_type(resolve(option, schema), schema) for option in options))
    if node.get("type") == "array":
        return show_list(node, schema)
    if node.get("type") == "object":
        return "mapping"
    if node.get("type") in ("integer", "number"):
        return ", ".join([node["type"], *show_bounds(node)])
    return {"boolean": "`true` or `false`", "string": "text"}[node["type"]]


def show_names(names: list[str]) -> str:
    """Return the type of a value that is one of these names, or one that a file or another package defines."""
    if set(names) == set(METRICS):
        return "[metric](metrics.md)"
    if set(METRICS) <= set(names):
        return "factor or [metric](metrics.md)"
    if any("." in name for name in names):
        return "factor"
    own = ", ".join(f"`{name}`" for name in names)
    return f"{own}, or a name of [another package](../extending.md)"


def show_list(node: Schema, schema: Schema) -> str:
    """Return the type of a list in words."""
    if "prefixItems" in node:
        return f"list of {len(node['prefixItems'])}: {show_type(resolve(node['prefixItems'][0], schema), schema)}"
    items = resolve(node["items"], schema)
    return "list" if "oneOf" in items else f"list of: {show_type(items, schema)}"


def show_bounds(node: Schema) -> Iterator[str]:
    """Yield the limits of a number in words."""
    limits = {name: f"{node[name]:,}".replace(",", "_").removesuffix(".0") for name in BOUNDS if name in node}
    if {"minimum", "maximum"} <= set(limits):
        yield f"{limits['minimum']} to {limits['maximum']}"
    else:
        yield from (f"{BOUNDS[name]} {limit}" for name, limit in limits.items())


def make_metrics_page(texts: Mapping[str, Any]) -> str:
    """Return the page of all metrics, a section for each group."""
    groups = {name: [key for key in METRICS if key.split("/")[0] == name] for name in texts["groups"]}
    check_texts("groups", {key.split("/")[0] for key in METRICS}, texts["groups"])
    check_texts("formulas", set(METRICS) & set(texts["formulas"]), texts["formulas"])
    lines = [
        MADE,
        "",
        "# Metrics",
        "",
        "Every metric by its key, which MLflow and the sweep file use too. The part before the slash groups charts.",
        "[Hypotheses](../hypotheses.md) name metrics as `response` and `against`.",
        "",
        "Embeddings are scaled to length 1 first. In the formulas, x_i are N images and y_i their matching texts.",
        "",
        "* d(c) = (1 − c) / 2 turns a cosine into a distance from 0 to 1.",
        "* m = d(mean x_i·y_i) over matched pairs, and 0.001 where that is not positive.",
        "* a = d(mean x_i·x_j) and b = d(mean y_i·y_j), over i ≠ j.",
        "* δ = mean(x) − mean(y), and δ_d is its coordinate d. H is the entropy in nats, s the logit scale.",
        "* os and od are mean cosines of pairs with the same and with different objects.",
        "* as and ad are those of pairs with the same and with different attributes, averaged over factors.",
    ]
    for name, keys in groups.items():
        directions = [getattr(METRICS[key], "better", None) for key in keys]
        better = " better |" if any(directions) else ""
        lines += ["", f"## {name}", "", texts["groups"][name], ""]
        lines += [f"| key | meaning | unit |{better} formula |", "|---|---|---|---|" + "---|" * bool(better)]
        for key, direction in zip(keys, directions, strict=True):
            formula = f"`{texts['formulas'][key]}`" if key in texts["formulas"] else ""
            column = f" {direction or ''} |" if better else ""
            lines.append(f"| `{key}` | {METRICS[key].meaning} | {METRICS[key].unit} |{column} {formula} |")
    return "\n".join(lines) + "\n"


def check_texts(part: str, keys: set[str], texts: Mapping[str, Any]) -> None:
    """Raise SystemExit where a key has no text, or a text no key."""
    missing, unknown = sorted(keys - set(texts)), sorted(set(texts) - keys)
    if missing or unknown:
        raise SystemExit(f"docs/reference/texts.yaml, {part}: no text for {missing}; no such key as {unknown}")


if __name__ == "__main__":
    write_pages()
