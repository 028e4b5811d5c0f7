"""What a submission to the Arena has to state, and the check of one.

    problems = check_submission(yaml.safe_load(Path("result.yaml").read_text()))

Two versions are in use. The tool up to 0.3 accepts version 4 alone; from 0.4 on it accepts both. Version 5 adds
`system.trained_on`, `calibration`, and two more ways in which a result may have been reproduced. Neither has null: what
is not known is left out. Source: the schemas of speech_spoof_bench 0.3.0 and 0.4.1 and the guide to its files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Problem:
    """What is wrong with a submission.

    Attributes:
      field: such as `system.code`.
      message: what is wrong with it, without its name.
      missing: whether it is not there at all.
    """

    field: str
    message: str
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.field} {self.message}"


@dataclass(frozen=True)
class _Value:
    """A value of a submission: what is expected, and whether a value is that."""

    expected: str
    accepts: Callable[[Any], bool]
    required: bool = True


@dataclass(frozen=True)
class _Object:
    """An object: its fields, and what fields of any other name hold, if it may have such."""

    fields: Mapping[str, _Value | _Object] = field(default_factory=dict)
    required: bool = True
    may_be_empty: bool = False
    others: _Value | None = None


def check_submission(content: Any) -> list[Problem]:
    """The problems of a submission, by the rules of the version that it states; none if it is valid.

    Args:
      content: of the file, as a YAML reader returns it.
    """
    if not isinstance(content, Mapping):
        return [Problem("the submission", f"is {_shown(content)}, not an object")]
    version = content.get("schema_version")
    rules = _RULES[version if version in VERSIONS else max(VERSIONS)]
    return [*_problems("", content, rules), *_problems_of_metrics(content)]


def _problems(path: str, content: Any, rule: _Value | _Object) -> Iterator[Problem]:
    if isinstance(rule, _Value):
        if not rule.accepts(content):
            yield Problem(path, f"is {_shown(content)}, not {rule.expected}")
    elif not isinstance(content, Mapping):
        yield Problem(path, f"is {_shown(content)}, not an object")
    elif content or not rule.may_be_empty:
        yield from _problems_of_fields(path, content, rule)


def _problems_of_fields(path: str, content: Mapping[str, Any], rule: _Object) -> Iterator[Problem]:
    for name, inner in rule.fields.items():
        location = f"{path}.{name}".lstrip(".")
        if name in content:
            yield from _problems(location, content[name], inner)
        elif inner.required and isinstance(inner, _Object):
            yield from _problems_of_fields(location, {}, inner)
        elif inner.required and isinstance(inner, _Value):
            yield Problem(location, f"is missing: {inner.expected}", missing=True)
    for name in [name for name in content if name not in rule.fields]:
        location = f"{path}.{name}".lstrip(".")
        if rule.others is None:
            yield Problem(location, "is not a field of this version of a submission")
        else:
            yield from _problems(location, content[name], rule.others)


def _problems_of_metrics(content: Mapping[str, Any]) -> Iterator[Problem]:
    """What the tool's recomputation needs beyond the schema."""
    scores = content.get("scores")
    if not isinstance(scores, Mapping):
        return
    if not scores.keys() - {"n_trials", "n_skipped"}:
        yield Problem("scores", "has no metric, such as eer_percent")
    if SRR_COMPLEMENT in scores and "calibration" not in content:
        for name, expected in (("source_dataset", "the id of the dataset that"), ("threshold", "the score that")):
            yield Problem(f"calibration.{name}", f"is missing: {expected} the threshold is from", missing=True)


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value!r:.60}"


def _matching(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_date(value: Any) -> bool:
    # A YAML reader returns unquoted dates as such.
    if isinstance(value, date):
        return True
    try:
        return isinstance(value, str) and bool(date.fromisoformat(value)) and len(value) == len("2026-11-24")
    except ValueError:
        return False


VERSIONS = (4, 5)
MATCHES = {4: ("scoring", "inference"), 5: ("scoring", "inference", "organizer", "closed-eval")}
"""How a result may have been reproduced, by version."""
SRR_COMPLEMENT = "srr_complement"
SLUG = "[a-z0-9][a-z0-9-]*"
COMMIT = "[0-9a-f]{7,40}"

_DATASET_ID = r"[^/\s]+/[^/\s]+"
_TEXT = _Value("a text that is not empty", lambda value: isinstance(value, str) and value != "")
_ADDRESS = _Value("an address, such as https://example.org/x", _matching(r"https?://[^\s/]+\S*"))
_DATE = _Value("a date, such as 2026-11-24", _is_date)
_COUNT = _Value("a whole number of at least 0", _is_count)
_ID = _Value("a dataset's id on the Hub, org/name", _matching(_DATASET_ID))


def _rules(version: int) -> _Object:
    """The rules of a version."""
    matches = MATCHES[version]
    system: dict[str, _Value | _Object] = {
        "name": _TEXT,
        "slug": _Value("lower-case letters, digits and hyphens", _matching(SLUG)),
        "description": _TEXT,
        "code": _ADDRESS,
        "checkpoint": _ADDRESS,
        "paper": _Object({"arxiv_id": _TEXT, "url": _ADDRESS, "bibtex": _TEXT}, required=False),
        "params_millions": _Value("a number of at least 0", lambda value: _is_number(value) and value >= 0, False),
    }
    reproduction = {
        "reproduced_by": _TEXT,
        "reproduced_at": _DATE,
        "reproduced_bench_version": _TEXT,
        "match": _Value(" or ".join(matches), lambda value: value in matches),
    }
    fields: dict[str, _Value | _Object] = {
        "schema_version": _Value(" or ".join(map(str, VERSIONS)), lambda value: _is_count(value) and value in VERSIONS),
        "system": _Object(system),
        "dataset": _Object({"id": _ID, "revision": _REVISION, "split": _TEXT}),
        "scores": _Object({"n_trials": _COUNT, "n_skipped": _COUNT}, others=_Value("a number", _is_number)),
        "artifact": _Object({"scores_url": _SCORES_URL, "scores_sha256": _SHA256, "bench_version": _BENCH_VERSION}),
        "reproduction": _Object(reproduction, required=False, may_be_empty=True),
        "submitter": _Object({"hf_username": _TEXT, "contact": _TEXT}),
        "submitted_at": _DATE,
        "notes": _Value("a text", lambda value: isinstance(value, str), False),
    }
    if version >= 5:
        system["trained_on"] = _Value(
            "a list of datasets' ids on the Hub, org/name",
            lambda value: isinstance(value, list) and all(map(_ID.accepts, value)),
            False,
        )
        fields["calibration"] = _Object(
            {"source_dataset": _ID, "threshold": _Value("a number", _is_number)}, required=False
        )
    return _Object(fields)


_REVISION = _Value("the commit of the dataset that was scored, 7 to 40 hex digits", _matching(COMMIT))
_SCORES_URL = _Value(
    "where the score file lies on the Hub at a commit, https://huggingface.co/ORG/NAME/resolve/COMMIT/...",
    _matching(rf"https://huggingface\.co/[^/]+/[^/]+/resolve/{COMMIT}/.*"),
)
_SHA256 = _Value("the sha256 of the score file", _matching("[0-9a-f]{64}"))
_BENCH_VERSION = _Value("the version of the Arena's tool, such as speech-spoof-bench==0.4.1", _TEXT.accepts)
_RULES = {version: _rules(version) for version in VERSIONS}
