"""A cohort: models as the trials and the replicates of a sweep, with what is known of each.

`Cohort` is the section of a sweep file. Its `models` are rows: written in the file, or read from a table by
`expand_cohort_table` before the file is checked, so that a declaration holds every row. A row is a model's name, values
of its training by dotted path (`architecture` and `weights` are those of `model`), numbers that others published
(`published/NAME`), and facts: whatever else is known of it.

`Cohort.members` are the rows that `where` keeps, `Cohort.excluded` the others, each with the reason.
`iterate_cohort_problems` finds what is wrong with them.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from io import BytesIO, StringIO
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, field_validator

from gapctl.config.architectures import (
    Architecture,
    find_architecture,
    get_overriding_architecture_texts,
    parse_architecture,
)
from gapctl.config.base import (
    FrozenModel,
    KeyPath,
    Problem,
    SpecError,
    flatten_document,
    format_choices,
    format_yaml_value,
)
from gapctl.config.hypotheses import LOGARITHM, Level
from gapctl.config.metrics import PUBLISHED
from gapctl.text import format_count_with_noun

TABLES: Final = Path(__file__).parent / "cohorts"
"""The folder of the tables of models that gapctl ships."""
SHORT_PATHS: Final = {
    "architecture": "model.architecture",
    "weights": "model.weights",
}
"""Columns that are named otherwise than the value of a training that they set."""
DERIVED_FACTS: Final[Mapping[str, Callable[[Architecture], Level | None]]] = {
    "parameters": lambda found: found.count_parameters(),
    "embed_dim": lambda found: found.embed_dim,
    "image_size": lambda found: found.image_size,
}
"""Facts that an architecture has, for rows that do not say them."""
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": lambda found, bound: found <= bound,
    ">=": lambda found, bound: found >= bound,
    "<": lambda found, bound: found < bound,
    ">": lambda found, bound: found > bound,
}
TAKEN_NAMES: Final = ("trial", "label", "seed", "model", "arms", "stratum", "lineage", "samples_seen", "seconds")
"""Columns of the tables of an analysis, which no covariate can be called."""
FEWEST_GROUPS: Final = 3
"""Strata, or within strata models, that must hold compared pairs before leaving each out says anything of an error."""
LONGEST_NAME: Final = 200
_TEXT_COLUMNS: Final = ("name", *SHORT_PATHS, *SHORT_PATHS.values())
"""Columns of a csv table whose cells are text, whatever they look like."""
_COMPARISON: Final = re.compile(r"(<=|>=|<|>)\s*([-+.\d_eE]+)")

Row = Annotated[
    dict[str, Level], BeforeValidator(lambda found: flatten_document(found) if isinstance(found, Mapping) else found)
]
Condition = Level | list[Level]


class CohortModel(NamedTuple):
    """One model of a cohort.

    `replicate` is its number among the members, `place` that among all rows. `changes` are values of its training by
    dotted path, `published` numbers of others by metric name, `facts` everything else that its row says.
    `architecture_text` is that of its architecture's json file, as it was when the sweep was read.
    """

    replicate: int
    place: int
    name: str
    changes: Mapping[str, Level]
    facts: Mapping[str, Level]
    published: Mapping[str, float]
    architecture_text: str = ""

    def get_fact(self, name: str) -> Level | None:
        """Return what is known of the model by this name; None for nothing.

        That is a fact of its row, a value of its training, or what its architecture has (`DERIVED_FACTS`).
        """
        written = self.facts.get(name, self.changes.get(SHORT_PATHS.get(name, name)))
        architecture = self.changes.get(SHORT_PATHS["architecture"])
        if written is not None or name not in DERIVED_FACTS or architecture is None:
            return written
        found, text = str(architecture), self.architecture_text
        try:
            return DERIVED_FACTS[name](parse_architecture(found, text) if text else find_architecture(found))
        except ValueError:
            return None


class ExcludedModel(NamedTuple):
    """A row that a cohort leaves out, and why."""

    name: str
    reason: str


class Cohort(FrozenModel):
    """Models that are measured, or trained and measured, in place of seeds: each is a replicate.

    `models` is a list of rows, a table of them (a csv or parquet file, or the name of one that gapctl ships, such as
    `open_clip`). `where` keeps rows by their facts: a number compared (`"< 1e9"`), a value, or a list of values;
    `exclude` names facts, and leaves out rows of which one is true or a text, the reason. `covariates` are facts that
    hypotheses may hold constant, `log parameters` the logarithm of one. `strata` is the fact that groups models, as by
    a pretraining set; `lineage` the one that models of one training run, or fine-tuned from one another, share.
    `source` says where numbers that others published come from.
    """

    models: Annotated[list[Row], Field(min_length=2)]
    where: dict[str, Condition] = Field(default_factory=dict)
    covariates: list[str] = Field(default_factory=list)
    strata: str = ""
    lineage: str = ""
    source: str = ""
    _architecture_texts: Mapping[str, str] = PrivateAttr(default_factory=get_overriding_architecture_texts)

    @field_validator("where", mode="after")
    @classmethod
    def _check_where(cls, where: dict[str, Condition], info: ValidationInfo) -> dict[str, Condition]:
        rows = info.data.get("models", [])
        known = _list_fact_names(rows)
        for name, condition in where.items():
            named = condition if name == EXCLUDE else [name]
            if not isinstance(named, list):
                raise ValueError(f"{EXCLUDE}: found {format_yaml_value(named)}; expected a list of facts")
            for fact in named:
                if rows and fact not in known:
                    raise ValueError(f"no model has a fact {fact!r}; {format_choices(str(fact), known)}")
            if name != EXCLUDE and isinstance(condition, str) and condition[:1] in "<>":
                _parse_comparison(condition)
        return where

    @cached_property
    def members(self) -> tuple[CohortModel, ...]:
        """The models that `where` keeps, in their order."""
        kept = [(place, row) for place, row in enumerate(self.models) if not self._explain_exclusion(row)]
        return tuple(
            _read_row(row, replicate, place, self._architecture_texts) for replicate, (place, row) in enumerate(kept)
        )

    @cached_property
    def excluded(self) -> tuple[ExcludedModel, ...]:
        """The models that `where` leaves out."""
        reasons = ((name_model(row), self._explain_exclusion(row)) for row in self.models)
        return tuple(ExcludedModel(name, reason) for name, reason in reasons if reason)

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The covariates without `log`, each once."""
        return tuple(dict.fromkeys(name.removeprefix(LOGARITHM) for name in self.covariates))

    def _explain_exclusion(self, row: Mapping[str, Level]) -> str:
        """Return why a row is left out, an empty text where it is kept."""
        for name, condition in self.where.items():
            if name == EXCLUDE:
                assert isinstance(condition, list)
                for fact in map(str, condition):
                    if excluded := row.get(fact):
                        return excluded if isinstance(excluded, str) else fact.replace("_", " ")
                continue
            found = row[name] if name in row else _read_row(row, 0, 0, self._architecture_texts).get_fact(name)
            if found is None:
                return f"{name} is not known"
            if not _holds(found, condition):
                shown = condition if isinstance(condition, str) else format_yaml_value(condition)
                return f"{name} is {format_yaml_value(found)}, not {shown}"
        return ""


EXCLUDE: Final = "exclude"
ALL: Final = "all"
"""Names the stratum of all models where a cohort has none."""


def _parse_comparison(text: str) -> tuple[Callable[[float, float], bool], float]:
    """Return the comparison and the bound of a condition such as `< 1e9`; raise ValueError for any other."""
    found = _COMPARISON.fullmatch(text.strip())
    try:
        if found is not None:
            return COMPARISONS[found[1]], float(found[2])
    except ValueError:
        pass
    raise ValueError(f"found {text!r}; expected a comparison such as '< 1e9' or '>= 5'")


def _holds(found: Level, condition: Condition) -> bool:
    if isinstance(condition, list):
        return found in condition
    if isinstance(condition, str) and condition[:1] in "<>" and condition:
        compare, bound = _parse_comparison(condition)
        return isinstance(found, int | float) and compare(float(found), bound)
    return found == condition


def _list_fact_names(rows: Iterable[Mapping[str, Level]]) -> list[str]:
    """List the names that rows have a value of, and those of derived facts where a row has an architecture."""
    names = dict.fromkeys(name for row in rows for name in row)
    derived = list(DERIVED_FACTS) if any(key in names for key in ("architecture", SHORT_PATHS["architecture"])) else []
    return list(dict.fromkeys([*names, *derived]))


def name_model(row: Mapping[str, Level]) -> str:
    """Return a row's name: its own, or its architecture and weights."""
    named = row.get("name") or " ".join(str(row[key]) for key in ("architecture", "weights") if key in row)
    return str(named) if named else ""


def _read_row(row: Mapping[str, Level], replicate: int, place: int, texts: Mapping[str, str]) -> CohortModel:
    changes: dict[str, Level] = {}
    facts: dict[str, Level] = {}
    published: dict[str, float] = {}
    for key, value in row.items():
        if key in SHORT_PATHS or "." in key:
            changes[SHORT_PATHS.get(key, key)] = value
        elif key.startswith(PUBLISHED) and isinstance(value, int | float):
            published[key] = float(value)
        elif key != "name":
            facts[key] = value
    text = texts.get(str(changes.get(SHORT_PATHS["architecture"])), "")
    return CohortModel(replicate, place, name_model(row), changes, facts, published, text)


def iterate_cohort_problems(cohort: Cohort) -> Iterator[Problem]:
    """Yield what is wrong with a cohort's rows: names, facts without a value, and numbers that are none."""
    seen: dict[str, int] = {}
    known = _list_fact_names(cohort.models)
    if len(cohort.members) < 2:
        first, left = cohort.excluded[0], [member.name for member in cohort.members] or ["no model"]
        yield Problem(("cohort", "where"), f"leaves {left[0]} ({first.name}: {first.reason}); expected at least two")
    for member in cohort.members:
        at: KeyPath = ("cohort", "models", member.place)
        if not member.name:
            yield Problem(at, "has no name; expected name, or architecture")
            continue
        if len(member.name) > LONGEST_NAME or not member.name.isprintable():
            text = (
                f"found the name {format_yaml_value(member.name)}; expected at most {LONGEST_NAME} printable characters"
            )
            yield Problem(at, text)
        if member.name in seen:
            text = f"found {member.name!r} again, as row {seen[member.name] + 1} has it; expected each model once"
            yield Problem(at, text)
        seen.setdefault(member.name, member.place)
        for path in (path for path in member.changes if path.startswith("evaluate.")):
            expected = "expected it in base, as all models are measured alike"
            text = f"found {format_yaml_value(member.changes[path])}; {expected}"
            yield Problem((*at, path), text)
        yield from _check_facts(cohort, member, at, known)
        for key, value in member.facts.items():
            if "/" in key:
                number = " and a number" if key.startswith(PUBLISHED) else ""
                expected = f"expected a fact, or {PUBLISHED}NAME{number} for one that is published"
                text = f"found {format_yaml_value(value)}; {expected}"
                yield Problem((*at, key), text)
    published = dict.fromkeys(name for member in cohort.members for name in member.published)
    if published and not cohort.source:
        text = f"missing; expected where the published {next(iter(published))} comes from, as rows have such numbers"
        yield Problem(("cohort", "source"), text)


def _check_facts(cohort: Cohort, member: CohortModel, at: KeyPath, known: Sequence[str]) -> Iterator[Problem]:
    keys: list[tuple[Literal["strata", "lineage"], str]] = [("strata", cohort.strata), ("lineage", cohort.lineage)]
    named: list[tuple[KeyPath, str]] = [(("cohort", key), name) for key, name in keys if name]
    named += [(("cohort", "covariates", place), name) for place, name in enumerate(cohort.covariates)]
    for place, written in named:
        name = written.removeprefix(LOGARITHM)
        if place[1] == "covariates" and name in TAKEN_NAMES:
            if member.replicate == 0:
                text = (
                    f"found {format_yaml_value(written)}, which names another column of an analysis's table of trials"
                )
                yield Problem(place, f"{text}; expected another name for this fact")
            continue
        if name not in known:
            if member.replicate == 0:
                yield Problem(place, f"no model has a fact {name!r}; {format_choices(name, known)}")
            continue
        value = member.get_fact(name)
        if value is None and name in DERIVED_FACTS and (why := _explain_unreadable_architecture(member)):
            yield Problem((*at, "architecture"), why)
            return
        if value is None:
            text = f"{member.name} has no {name}, by which {format_place(place)} tells models apart; expected a value"
            yield Problem((*at, name), text)
        elif written != name and not (isinstance(value, int | float) and value > 0):
            yield Problem(
                (*at, name), f"found {format_yaml_value(value)}; expected a number above 0, as for a logarithm"
            )


def _explain_unreadable_architecture(member: CohortModel) -> str:
    """Return why a model's architecture cannot be read, for a fact that would follow from it; "" where it can."""
    named = member.changes.get(SHORT_PATHS["architecture"])
    try:
        if named is not None and not member.architecture_text:
            find_architecture(str(named))
    except ValueError as error:
        return str(error)
    return ""


def format_place(place: KeyPath) -> str:
    """Write the key of a cohort that a place is in: `cohort.strata`."""
    return ".".join(str(step) for step in place if isinstance(step, str))


def expand_cohort_table(
    document: Mapping[str, object], folder: Path, tables: Mapping[str, str]
) -> tuple[dict[str, object], dict[str, str]]:
    """Return a sweep file's values with the rows of the table that `cohort.models` names, and that table's text.

    `tables` are texts by name that are used in place of files, as a declaration keeps them; any other is looked for in
    `folder`, then among those that gapctl ships. Raise SpecError where there is none or it cannot be read.
    """
    cohort = document.get("cohort")
    name = cohort.get("models") if isinstance(cohort, Mapping) else None
    if not isinstance(name, str) or not isinstance(cohort, Mapping):
        return dict(document), {}
    text = tables[name] if name in tables else _read_table(name, folder)
    header, rows = _parse_columns(text, name)
    found = {**cohort, "models": rows}
    where = cohort.get("where")
    if isinstance(where, Mapping) and isinstance(where.get(EXCLUDE), list):
        # A column without a value leaves out no row.
        empty = [fact for fact in header if not any(fact in row for row in rows)]
        found["where"] = {**where, EXCLUDE: [fact for fact in where[EXCLUDE] if fact not in empty]}
    return {**document, "cohort": found}, {name: text}


def list_shipped_tables() -> list[str]:
    """List the names of the tables of models that gapctl ships, the newest of each kind under its plain name too."""
    dated = sorted(path.stem for path in TABLES.glob("*.csv"))
    return [*dict.fromkeys(name.partition("@")[0] for name in dated), *dated]


def _read_table(name: str, folder: Path) -> str:
    path = folder / Path(name).expanduser()
    dated = [each for each in list_shipped_tables() if "@" in each and name in (each, each.partition("@")[0])]
    try:
        if not path.is_file() and dated:
            return (TABLES / f"{dated[-1]}.csv").read_text(encoding="utf-8")
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"cohort.models: {name}: no such table; expected a list of models, a csv or parquet file of them, or "
            f"{format_choices(name, list_shipped_tables()).removeprefix('expected ')}"
        ) from error
    if path.suffix == ".parquet":
        return _convert_parquet(content, name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"cohort.models: {name}: byte {error.start} is not UTF-8; expected csv or parquet") from error


def _convert_parquet(content: bytes, name: str) -> str:
    """Return a parquet file as lines of JSON, which keep the type of each value: the header, then each row's cells."""
    import polars as pl

    try:
        table = pl.read_parquet(BytesIO(content))
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise SpecError(f"cohort.models: {name}: cannot be read as parquet ({reason})") from error
    nested = [f"{column} ({kind})" for column, kind in table.schema.items() if kind.is_nested()]
    if nested:
        raise SpecError(f"cohort.models: {name}: found the column {nested[0]}; expected numbers, text, true or false")
    rows = ([_convert_cell(value) for value in row] for row in table.iter_rows())
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in (table.columns, *rows))


def _convert_cell(value: object) -> Level | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def parse_table(text: str, name: str) -> list[dict[str, Level]]:
    """Return the rows of a table of models, without empty cells.

    The text is csv, where lines above the header that begin with # are comments, or the lines of JSON that stand for a
    parquet file. Raise SpecError for text that is neither, for a header with a name that is empty or written twice, and
    for rows of another length than the header.
    """
    return _parse_columns(text, name)[1]


def _parse_columns(text: str, name: str) -> tuple[list[str], list[dict[str, Level]]]:
    """Return the names in the header of a table of models, and its rows."""
    if name.endswith(".parquet") and text.startswith("["):
        columns, *cells_of_rows = [json.loads(line) for line in StringIO(text)]
        pairs = (zip(columns, cells, strict=True) for cells in cells_of_rows)
        return columns, [{key: cell for key, cell in row if cell not in (None, "")} for row in pairs]
    lines = dropwhile(lambda line: line.startswith("#") or not line.strip(), StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    try:
        header, *rows = [cells for cells in reader if cells] or [[]]
    except csv.Error as error:
        raise SpecError(
            f"cohort.models: {name}: cannot be read as csv, near line {reader.line_num} ({error})"
        ) from error
    names = [cell.strip() for cell in header]
    wrong = next((place for place, key in enumerate(names) if not key or key in names[:place]), None)
    if wrong is not None:
        shown = f"{format_yaml_value(names[wrong])} again" if names[wrong] else "no name"
        raise SpecError(f"cohort.models: {name}: column {wrong + 1} of the header has {shown}; expected each name once")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(names):
            raise SpecError(
                f"cohort.models: {name}: row {number} has {len(cells)} cells, and the header names {len(names)}; "
                "expected as many. A value with a comma is written in quotes"
            )
    return names, [
        {key: _parse_cell(key, cell.strip()) for key, cell in zip(names, cells, strict=True) if cell.strip()}
        for cells in rows
    ]


def _parse_cell(column: str, cell: str) -> Level:
    """Return a cell as a truth value, a finite number or text."""
    if column in _TEXT_COLUMNS:
        return cell
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    for kind in (int, float):
        try:
            number = kind(cell)
        except ValueError:
            continue
        return number if math.isfinite(number) else cell
    return cell


def get_model_stratum(cohort: Cohort, model: CohortModel) -> str:
    """Return a model's stratum; without strata, all models are of one."""
    return str(model.get_fact(cohort.strata)) if cohort.strata else ALL


def get_model_lineage(cohort: Cohort, model: CohortModel) -> str | None:
    """Return the training run that a model belongs to, None where the cohort does not say."""
    found = model.get_fact(cohort.lineage) if cohort.lineage else None
    return None if found is None else str(found)


def is_same_level(found: Level | None, level: Level) -> bool:
    """Return whether a fact, which tables may hold as text, is the level that a hypothesis names."""
    if found is None or found == level or str(found) == str(level):
        return found is not None
    try:
        return isinstance(level, int | float) and not isinstance(level, bool) and float(found) == level
    except ValueError:
        return False


def get_cohort_model_value(cohort: Cohort, model: CohortModel, name: str) -> Level | None:
    """Return what the table of trials says of a model: its stratum, its lineage, or a covariate."""
    if name == "stratum":
        return get_model_stratum(cohort, model)
    return get_model_lineage(cohort, model) if name == "lineage" else model.get_fact(name)


def select_members(cohort: Cohort, where: Mapping[str, Level]) -> list[CohortModel]:
    """Return the models whose stratum, lineage and covariates are at the levels of a hypothesis."""
    return [
        model
        for model in cohort.members
        if all(is_same_level(get_cohort_model_value(cohort, model, name), level) for name, level in where.items())
    ]


def group_models_by_stratum(cohort: Cohort) -> dict[str, list[str]]:
    """Return the names of the models in each stratum, one stratum for all where the cohort names none."""
    found: dict[str, list[str]] = {}
    for member in cohort.members:
        found.setdefault(get_model_stratum(cohort, member), []).append(member.name)
    return found


def describe_cohort(cohort: Cohort) -> Sequence[str]:
    """Return lines for people: how many models, in which strata, and which were left out for which reason."""
    strata = group_models_by_stratum(cohort)
    lines = [f"{len(cohort.members)} models"]
    if cohort.strata:
        sizes = ", ".join(f"{name} {len(names)}" for name, names in sorted(strata.items(), key=lambda each: each[0]))
        alone = sum(len(names) == 1 for names in strata.values())
        lines[0] += f" in {len(strata)} strata of {cohort.strata} ({sizes})"
        if alone:
            have = f"{format_count_with_noun(alone, 'stratum', 'strata')} {'has' if alone == 1 else 'have'} one model"
            lines.append(f"{have}, which says nothing about differences within a stratum")
    lines += [f"left out: {name}: {reason}" for name, reason in cohort.excluded]
    return lines
