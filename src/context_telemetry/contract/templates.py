"""Renders the Jinja in a face's SQL so that it can be parsed: `ref()` and `source()` as the manifest resolves them,
variables as stand-ins, and a text for each branch that a variable decides.

A variable is a bound parameter where Dataface runs the query, so it never names a table or a column; whoever parses
finds the stand-in in such a place. What Dataface itself does not resolve is refused here, with the reason.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jinja2 import TemplateError, Undefined, nodes
from jinja2.sandbox import SandboxedEnvironment

from context_telemetry.contract.manifest import Declared, Manifest

STAND_IN: Final = "context_contract_value"
"""Stands where a variable's value would: a name that no table and no column has."""

_BRANCH: Final = "context_contract_branch"
_MOST_TEXTS: Final = 32
_DEEPEST: Final = 20

# The forms of a call that Dataface resolves; it refuses a query in which any other is left.
_OPEN, _CLOSE, _QUOTED = r"\{\{-?\s*", r"\s*-?\}\}", r"['\"]([^'\"]+)['\"]"
_REF: Final = re.compile(_OPEN + r"ref\(\s*" + _QUOTED + r"\s*\)" + _CLOSE)
_SOURCE: Final = re.compile(_OPEN + r"source\(\s*" + _QUOTED + r"\s*,\s*" + _QUOTED + r"\s*\)" + _CLOSE)
_OTHER: Final = re.compile(_OPEN + r"((?:ref|source)\([^}]*)")
_QUERY: Final = re.compile(_OPEN + r"queries\.(\w+)\s*(?:\.\s*cache\s*)?" + _CLOSE)
_COLUMN: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")

QueryText = Callable[[str], "str | None"]
"""Gives the SQL of the query of a name, for `{{ queries.NAME }}`; None where there is no such query of SQL."""


class Unresolved(Exception):
    """A template cannot be resolved; the text says why, in a few words. ``missing``: the name that leads nowhere."""

    def __init__(self, why: str, missing: str | None = None) -> None:
        super().__init__(why)
        self.missing = missing


@dataclass(frozen=True)
class Rendered:
    """SQL without Jinja. ``relations`` are those in it that `ref()` and `source()` gave, and which of the two."""

    sql: str
    relations: Mapping[str, str] = field(default_factory=dict)


def render(sql: str, manifest: Manifest | None, queries: QueryText) -> list[Rendered]:
    """One text that takes the first branch everywhere, and one more for each branch that it leaves out.

    Raises Unresolved.
    """
    relations: dict[str, str] = {}
    composed = _composed(sql, queries, ())
    resolved = _with_relations(composed, manifest, relations)
    if "{{" not in resolved and "{%" not in resolved:
        return [Rendered(resolved, relations)]
    try:
        return [Rendered(text, relations) for text in _texts(resolved)]
    except TemplateError as error:
        raise Unresolved(
            f"the template cannot be rendered: {error.message or type(error).__name__}"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Unresolved(f"the template cannot be rendered without its values: {error}") from error


def _composed(sql: str, queries: QueryText, within: tuple[str, ...]) -> str:
    """With the text of each query that it is made of, as Dataface puts it there: a subquery of that name."""

    def text(match: re.Match[str]) -> str:
        name = match[1]
        if name in within or len(within) > _DEEPEST:
            raise Unresolved(f"the query {name} is made of itself")
        found = queries(name)
        if found is None:
            raise Unresolved(f"queries.{name}: there is no query {name} of SQL")
        return f"({_composed(found, queries, (*within, name)).strip().rstrip(';')}) AS {name}"

    return _QUERY.sub(text, sql)


def _with_relations(sql: str, manifest: Manifest | None, relations: dict[str, str]) -> str:
    def written(found: Declared | None, kind: str, call: str) -> str:
        if manifest is None:
            raise Unresolved(f"{call}: there is no manifest of dbt that resolves it")
        if found is None:
            raise Unresolved(f"{call}: the manifest has none of that name", call)
        relations[found.relation] = kind
        return found.relation

    def ref(match: re.Match[str]) -> str:
        return written(manifest.refs.get(match[1]) if manifest else None, "ref", f"ref('{match[1]}')")

    def source(match: re.Match[str]) -> str:
        found = manifest.sources.get((match[1], match[2])) if manifest else None
        return written(found, "source", f"source('{match[1]}', '{match[2]}')")

    sql = _SOURCE.sub(source, _REF.sub(ref, sql))
    if other := _OTHER.search(sql):
        raise Unresolved(f"{other[1].strip()}: a form of the call that Dataface does not resolve")
    return sql


# -- branches -------------------------------------------------------------------------------------


def _texts(sql: str) -> Iterator[str]:
    environment = SandboxedEnvironment(undefined=_Value)
    tree = environment.parse(sql)
    choices: list[Mapping[int, int]] = [{}]
    _open_up(tree, frozenset(_locals(tree)), {}, choices, itertools.count())
    if len(choices) > _MOST_TEXTS:
        raise Unresolved(f"the template has more than {_MOST_TEXTS} branches")
    tree.set_environment(environment)
    template = environment.from_string(tree)
    for taken in choices:
        yield template.render({_BRANCH: _Branches(taken), **_HELPERS})


@dataclass(frozen=True)
class _Branches:
    """Says of each open condition whether one of its branches is the one to take."""

    taken: Mapping[int, int]

    def __call__(self, condition: int, branch: int) -> bool:
        return self.taken.get(condition, 0) == branch


def _open_up(
    node: nodes.Node,
    local: frozenset[str],
    around: Mapping[int, int],
    choices: list[Mapping[int, int]],
    numbers: Iterator[int],
) -> None:
    """Let `_Branches` decide each condition that a variable would, and list what it has to be asked with."""
    if isinstance(node, nodes.If) and not _is_decided(node, local):
        number = next(numbers)
        branches = [node.body, *(one.body for one in node.elif_), node.else_]
        for index, one in enumerate((node, *node.elif_)):
            one.test = _asked(number, index, node.lineno)
        for index, body in enumerate(branches):
            here = {**around, number: index}
            if index and body:
                choices.append(here)
            for child in body:
                _open_up(child, local, here, choices, numbers)
        return
    if isinstance(node, nodes.CondExpr) and not _names(node.test) <= local:
        number = next(numbers)
        node.test = _asked(number, 0, node.lineno)
        choices.append({**around, number: 1})
    for child in node.iter_child_nodes():
        _open_up(child, local, around, choices, numbers)


def _is_decided(node: nodes.If, local: frozenset[str]) -> bool:
    """Whether the template itself decides: by its loops, by what it sets from nothing but literals."""
    return all(_names(one.test) <= local for one in (node, *node.elif_))


def _asked(number: int, branch: int, line: int) -> nodes.Call:
    name = nodes.Name(_BRANCH, "load", lineno=line)
    arguments: list[nodes.Expr] = [nodes.Const(number, lineno=line), nodes.Const(branch, lineno=line)]
    return nodes.Call(name, arguments, [], None, None, lineno=line)


def _names(node: nodes.Node) -> set[str]:
    found = {name.name for name in node.find_all(nodes.Name)}
    return found | ({node.name} if isinstance(node, nodes.Name) else set())


def _locals(tree: nodes.Template) -> set[str]:
    """Names that the template gives itself, out of nothing that a variable says."""
    own = {"loop", "range", "true", "false", "none"}
    statements: list[nodes.Assign | nodes.For] = [*tree.find_all(nodes.Assign), *tree.find_all(nodes.For)]
    for statement in sorted(statements, key=lambda one: one.lineno):
        source = statement.node if isinstance(statement, nodes.Assign) else statement.iter
        if _names(source) <= own:
            own |= _names(statement.target)
    return own


# -- values ---------------------------------------------------------------------------------------


_ASKED_BY_SANDBOX: Final = ("unsafe_callable", "alters_data")


class _Value(Undefined):
    """Whatever is not defined in a template: the value of a variable, as far as can be told without it."""

    __slots__ = ()

    def __str__(self) -> str:
        return STAND_IN

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise Unresolved(f"{self._undefined_name}(): nothing that Dataface resolves")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in _ASKED_BY_SANDBOX:
            raise AttributeError(name)
        return self

    def _itself(self, *_: Any) -> Any:
        return self

    def _true(self, *_: Any) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter((self,))

    def __len__(self) -> int:
        return 1

    def _nothing(self) -> int:
        return 0

    def __hash__(self) -> int:
        return hash(STAND_IN)

    __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _itself
    __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __neg__ = __pos__ = _itself
    # The types of `object` and `int` would have these take and give other than a stand-in does.
    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _true  # type: ignore[assignment]
    __int__ = _nothing  # type: ignore[assignment]

    def __float__(self) -> Any:
        return 0.0


def _filter(column: Any, *_: Any, **__: Any) -> str:
    """What Dataface's filters read: the column that they name."""
    if not isinstance(column, str) or not _COLUMN.fullmatch(column):
        raise Unresolved("filter(): its column is not a plain name")
    return f"{column} = {STAND_IN}"


_HELPERS: Final[Mapping[str, Any]] = {"filter": _filter, "filter_date_range": _filter}
