"""Generates what follows from the registry: the constants, the declarations, the docs page, the names lock.

`python tools/generate_conventions.py` writes the files; `--check` writes nothing and exits 1 when one is not
what the registry gives. It refuses to drop a name that the lock has: a name leaves by being `deprecated`.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CONVENTIONS = ROOT / "src" / "context_telemetry" / "conventions"
LOCK = CONVENTIONS / "names.lock.yaml"
WIDTH = 110

# Constant in names.py -> (the attribute whose members it holds, its docstring).
CLOSED_LISTS = {
    "OPERATIONS": ("dataface.operation.name", "What a call does."),
    "OUTCOMES": ("dataface.outcome", "How a call ends."),
    "REASONS": ("dataface.degradation.reason", "Why a call is degraded or failed."),
    "SURFACES": ("dataface.surface", "The protocols of entries."),
    "CLIENTS": ("dataface.client.name", "The clients that are told apart."),
    "LAYERS": ("dataface.catalog.layer", "The layers of the catalogue."),
    "PAYLOAD_KINDS": ("dataface.payload.kind", "What a payload is."),
    "PLACES": ("context_telemetry.place", "The parts of the library."),
    "COMMANDS": ("dataface.command.name", "The commands of `dft` that are entries."),
    "ARTIFACTS": ("dataface.artifact", "The files that Dataface serves from."),
}
REASON_FACTS = ("condition", "outcome", "healthy_twin", "silent", "what_to_do")


class RegistryError(Exception):
    """The registry, or its lock, does not allow what would be generated."""


@dataclass(frozen=True)
class Attribute:
    """One attribute, ours or imported."""

    key: str
    type: str
    brief: str
    stability: str
    note: str = ""
    members: tuple[Mapping[str, Any], ...] = ()
    deprecated: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] = field(default_factory=dict)
    imported: bool = False


@dataclass(frozen=True)
class Signal:
    """A span type, a metric or an event, with every attribute that it may carry and how much it has to."""

    name: str
    brief: str
    stability: str
    levels: Mapping[str, str]
    fields: Mapping[str, Any]
    annotations: Mapping[str, Any]
    imported: bool = False


@dataclass(frozen=True)
class Registry:
    """The registry, read and with its references resolved."""

    schema_url: str
    attributes: Mapping[str, Attribute]
    spans: tuple[Signal, ...]
    metrics: tuple[Signal, ...]
    events: tuple[Signal, ...]

    @property
    def version(self) -> str:
        return self.schema_url.rsplit("/", 1)[-1]

    def members(self, key: str) -> tuple[Mapping[str, Any], ...]:
        """The closed list behind an attribute, empty when it has none."""
        attribute = self.attributes[key]
        return (
            self.members(attribute.annotations["values_of"])
            if "values_of" in attribute.annotations
            else attribute.members
        )


# -- reading ---------------------------------------------------------------------------------------


def read_registry(folder: Path = CONVENTIONS / "registry") -> Registry:
    """Read every file of ``folder``. Raises RegistryError on a reference that leads nowhere."""
    manifest: dict[str, Any] = yaml.safe_load((folder / "manifest.yaml").read_text(encoding="utf-8"))
    sections: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.yaml")):
        if path.name != "manifest.yaml":
            for section, entries in yaml.safe_load(path.read_text(encoding="utf-8")).items():
                if section != "file_format":
                    sections.setdefault(section, []).extend(entries)
    groups = {group["id"]: group["attributes"] for group in sections.get("attribute_groups", [])}
    attributes = {entry["key"]: _attribute(entry) for entry in sections["attributes"]}
    if len(attributes) != len(sections["attributes"]):
        raise RegistryError("an attribute is defined twice")
    for ref in groups.get("context_telemetry.imported", []):
        attributes[ref["ref"]] = _imported(ref)

    def signal(entry: Mapping[str, Any], name: str, imported: bool = False) -> Signal:
        levels = _levels(entry.get("attributes", ()), groups)
        if unknown := set(levels) - set(attributes):
            raise RegistryError(f"{entry[name]} refers to attributes that nothing defines: {sorted(unknown)}")
        annotations = entry.get("annotations", {})
        fields = annotations if imported else entry
        return Signal(
            entry[name],
            entry["brief"],
            entry.get("stability", "development"),
            levels,
            fields,
            annotations,
            imported,
        )

    return Registry(
        schema_url=manifest["schema_url"],
        attributes=dict(sorted(attributes.items())),
        spans=tuple(signal(entry, "type") for entry in sections["spans"]),
        metrics=tuple(signal(entry, "name") for entry in sections["metrics"])
        + tuple(signal(entry, "ref", imported=True) for entry in sections["metric_refinements"]),
        events=tuple(signal(entry, "name") for entry in sections["events"]),
    )


def _attribute(entry: Mapping[str, Any]) -> Attribute:
    kind = entry["type"]
    return Attribute(
        key=entry["key"],
        type=kind if isinstance(kind, str) else "string",
        brief=entry["brief"],
        stability=entry["stability"],
        note=entry.get("note", ""),
        members=() if isinstance(kind, str) else tuple(kind["members"]),
        deprecated=entry.get("deprecated"),
        annotations=entry.get("annotations", {}),
    )


def _imported(ref: Mapping[str, Any]) -> Attribute:
    return Attribute(
        ref["ref"],
        ref["annotations"]["type"],
        ref["brief"],
        "imported",
        annotations=ref["annotations"],
        imported=True,
    )


def _levels(refs: Iterable[Mapping[str, Any]], groups: Mapping[str, list[dict[str, Any]]]) -> dict[str, str]:
    levels: dict[str, str] = {}
    for ref in refs:
        if "ref_group" in ref:
            if ref["ref_group"] not in groups:
                raise RegistryError(f"no attribute group {ref['ref_group']}")
            levels |= _levels(groups[ref["ref_group"]], groups)
        else:
            level = ref["requirement_level"]
            levels[ref["ref"]] = level if isinstance(level, str) else next(iter(level))
    return levels


# -- Python ----------------------------------------------------------------------------------------


def constant(name: str) -> str:
    return name.upper().replace(".", "_")


@dataclass(frozen=True)
class Call:
    """A call in generated source."""

    name: str
    arguments: Mapping[str, Any]


class Name(str):
    """A name in generated source."""


def python(value: Any, indent: int = 0, used: int = 0) -> str:
    """``value`` as source, laid out as ruff does: on one line if it fits beside ``used`` columns."""
    opening, rows, closing = _parts(value)
    if not rows or indent + used + len(_one_line(value)) + 1 <= WIDTH:
        return _one_line(value)
    comma = "" if isinstance(value, frozenset) else ","
    pad = " " * (indent + 4)
    lines = [f"{pad}{label}{python(item, indent + 4, len(label))}{comma}" for label, item in rows]
    return "\n".join([opening, *lines, " " * indent + closing])


def _one_line(value: Any) -> str:
    opening, rows, closing = _parts(value)
    comma = "," if isinstance(value, tuple) and len(rows) == 1 else ""
    return opening + ", ".join(label + _one_line(item) for label, item in rows) + comma + closing


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """What opens ``value``, its labelled items, what closes it."""
    if isinstance(value, Name):
        return value, [], ""
    if isinstance(value, Call):
        return f"{value.name}(", [(f"{key}=", item) for key, item in value.arguments.items()], ")"
    if isinstance(value, frozenset):
        return "frozenset(", [("", sorted(value))], ")"
    if isinstance(value, list):
        return "{", [("", item) for item in value], "}"
    if isinstance(value, dict):
        return "{", [(f"{python(key)}: ", item) for key, item in value.items()], "}"
    if isinstance(value, tuple):
        return "(", [("", item) for item in value], ")"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value), [], ""


def docstring(text: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - 6)
    body = "\n".join(lines).replace("\\", "\\\\")
    return f'"""{body}"""'


HEADER = '''"""{what}

Generated by tools/generate_conventions.py from registry/*.yaml: do not edit.
"""

from __future__ import annotations
'''


def metric_call(metric: Signal) -> Call:
    derive = metric.annotations["derive"]
    when = {key: tuple(item) if isinstance(item, list) else item for key, item in derive["when"].items()}
    arguments: dict[str, Any] = {
        "name": metric.name,
        "instrument": metric.fields["instrument"],
        "unit": metric.fields["unit"],
        "brief": " ".join(metric.brief.split()),
        "boundaries": tuple(metric.annotations.get("boundaries", ())),
        "attributes": tuple(metric.levels),
        "source": derive["source"],
        "when": when,
        "value": derive.get("value", 1),
    }
    arguments |= {key: derive[key] for key in ("each", "read_from", "parts") if key in derive}
    return Call("Metric", arguments)


def bound_call(attribute: Attribute) -> Call | None:
    if "known" in attribute.annotations:
        return Call("Bound", {"known": frozenset(attribute.annotations["known"])})
    if "where" in attribute.annotations:
        where = tuple((key, frozenset(values)) for key, values in attribute.annotations["where"].items())
        return Call("Bound", {"where": where})
    return None


def names_module(registry: Registry) -> str:
    out = [HEADER.format(what="The names of the conventions, the closed lists, and how each metric derives.")]
    out.append("from typing import Final\n\nfrom context_telemetry.conventions.metric import Bound, Metric\n")

    def put(name: str, value: Any, doc: str, kind: str = "Final") -> None:
        head = f"{name}: {kind} = "
        out.append(f"{head}{python(value, 0, len(head))}\n{docstring(doc)}\n")

    put("SCOPE", "context_telemetry", "The instrumentation scope of everything that the library emits.")
    put("VERSION", registry.version, "The version of the library and of these conventions.")
    put("SCHEMA_URL", registry.schema_url, "Identifies these conventions. It does not resolve.")
    out.append("# Attributes\n")
    for attribute in registry.attributes.values():
        put(constant(attribute.key), attribute.key, f"{attribute.brief} {attribute.note}")
    out.append("# Metrics\n")
    for metric in registry.metrics:
        put("METRIC_" + constant(metric.name), metric.name, metric.brief)
    out.append("# Events\n")
    for event in registry.events:
        put("EVENT_" + constant(event.name), event.name, event.brief)
    out.append("# Closed lists\n")
    for name, (key, doc) in CLOSED_LISTS.items():
        put(
            name, frozenset(member["value"] for member in registry.members(key)), doc, "Final[frozenset[str]]"
        )
    entries = (
        m["value"]
        for m in registry.members("dataface.operation.name")
        if m.get("annotations", {}).get("entry")
    )
    put(
        "ENTRY_OPERATIONS",
        frozenset(entries),
        "The operations that begin a request.",
        "Final[frozenset[str]]",
    )
    put(
        "REASON_OUTCOME",
        {m["value"]: m["annotations"]["outcome"] for m in registry.members("dataface.degradation.reason")},
        "The least outcome that a reason gives the entry that it rises to.",
        "Final[dict[str, str]]",
    )
    put(
        "STALE_REASON",
        {
            m["value"]: m["annotations"]["stale"]
            for m in registry.members("dataface.catalog.layer")
            if "stale" in m.get("annotations", {})
        },
        "The reason that an age beyond its promise gives, by layer.",
        "Final[dict[str, str]]",
    )
    bounds = {key: bound for key, a in registry.attributes.items() if (bound := bound_call(a)) is not None}
    put(
        "BOUNDS",
        bounds,
        "What a client can invent, and what of it may go on a metric.",
        "Final[dict[str, Bound]]",
    )
    put("METRICS", tuple(map(metric_call, registry.metrics)), "Every metric.", "Final[tuple[Metric, ...]]")
    return "\n".join(out)


def declared_module(registry: Registry) -> str:
    out = [HEADER.format(what="What the registry declares, as the conformance check reads it.")]
    imported = (
        "from context_telemetry.conventions import names\n"
        "from context_telemetry.conventions.declaration import Attribute, Signal"
    )
    out.append(f"from typing import Final\n\n{imported}\n")

    def signals(rows: Iterable[Signal]) -> tuple[Call, ...]:
        return tuple(
            Call(
                "Signal",
                {"name": row.name}
                | ({"kind": row.fields["kind"]} if "kind" in row.fields else {})
                | (
                    {"operations": frozenset(row.annotations["operations"])}
                    if "operations" in row.annotations
                    else {}
                )
                | {"levels": dict(row.levels)},
            )
            for row in rows
        )

    lists = {key: Name(f"names.{name}") for name, (key, _) in CLOSED_LISTS.items()}

    def attribute(row: Attribute) -> Call:
        members = registry.members(row.key)
        arguments: dict[str, Any] = {"type": row.type}
        owner = registry.attributes[row.annotations.get("values_of", row.key)]
        if members:
            arguments["members"] = lists.get(owner.key) or frozenset(member["value"] for member in members)
        # A list that two attributes share is expected whole of its owner only.
        if (members and owner is not row) or owner.annotations.get("every_run") is False:
            arguments["every_run"] = False
        return Call("Attribute", arguments)

    head = "ATTRIBUTES: Final[dict[str, Attribute]] = "
    out.append(head + python({key: attribute(row) for key, row in registry.attributes.items()}, 0, len(head)))
    for name, rows in (("SPANS", registry.spans), ("METRICS", registry.metrics), ("EVENTS", registry.events)):
        head = f"{name}: Final[tuple[Signal, ...]] = "
        out.append(head + python(signals(rows), 0, len(head)))
    return "\n".join(out) + "\n"


# -- the docs page ---------------------------------------------------------------------------------

MARK = {"required": "", "conditionally_required": " (when)", "recommended": " (may)", "opt_in": " (opt-in)"}


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += [
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def derivation(metric: Signal) -> str:
    derive, words = metric.annotations["derive"], []
    when = derive["when"]
    if "event" in when:
        words.append(f"each `{when['event']}` event")
    else:
        words.append("each entry" if when.get("entry") else "each span")
    if "has" in when:
        words.append(f"with {code(when['has'])}")
    if "not_has" in when:
        words.append(f"without {code(when['not_has'])}")
    if "parts" in derive:
        words.append(f": {code(derive['parts'].values())}, by `{derive['each']}`")
    elif "each" in derive:
        words.append(f": 1 for each distinct item of `{derive['each']}`")
    else:
        value = derive["value"]
        words.append(
            ": its duration" if value == "duration" else f": {value if value == 1 else f'`{value}`'}"
        )
    words += [f"; `{label}` from `{name}`" for label, name in derive.get("read_from", {}).items()]
    return " ".join(words).replace(" :", ":").replace(" ;", ";")


def docs_page(registry: Registry) -> str:
    entry = {
        m["value"]
        for m in registry.members("dataface.operation.name")
        if m.get("annotations", {}).get("entry")
    }
    out = [
        "# Conventions\n",
        "Generated by `tools/generate_conventions.py` from `src/context_telemetry/conventions/registry/`: do "
        "not edit.\n",
        f"Schema URL `{registry.schema_url}` (it identifies, it does not resolve). Everything here has the "
        "stability `development`; a name leaves through a deprecation: `names.lock.yaml` holds it to that.\n",
        "Only what this version emits is declared. After an attribute of a signal, (when) means under a "
        "condition, (may) recommended; no mark means always.\n",
        "## Operations\n",
        table(
            ("operation", "entry", "what the call does"),
            (
                (f"`{m['value']}`", "yes" if m["value"] in entry else "", m["brief"])
                for m in registry.members("dataface.operation.name")
            ),
        ),
        "## Reasons\n",
        "Silent: Dataface's own answer does not say it.\n",
        table(
            ("reason", "condition", "outcome", "silent", "healthy twin", "what to do"),
            (
                (
                    f"`{m['value']}`",
                    m["annotations"]["condition"],
                    m["annotations"]["outcome"],
                    "yes" if m["annotations"]["silent"] else "no",
                    m["annotations"]["healthy_twin"],
                    m["annotations"]["what_to_do"],
                )
                for m in registry.members("dataface.degradation.reason")
            ),
        ),
        "## Spans\n",
        table(
            ("type", "kind", "operations", "what it is", "attributes"),
            (
                (
                    f"`{span.name}`",
                    span.fields["kind"],
                    code(span.annotations["operations"]),
                    span.brief,
                    ", ".join(f"`{name}`{MARK[level]}" for name, level in span.levels.items()),
                )
                for span in registry.spans
            ),
        ),
        "## Metrics\n",
        "A label's value that a client can invent becomes `_OTHER`: a tool or method that is not known, a "
        "source that is configured nowhere.\n",
        table(
            ("metric", "kind, unit", "what it says", "labels", "derived from", "bucket bounds"),
            (
                (
                    f"`{metric.name}`",
                    f"{metric.fields['instrument']} `{metric.fields['unit']}`",
                    metric.brief,
                    ", ".join(f"`{name}`{MARK[level]}" for name, level in metric.levels.items()),
                    derivation(metric),
                    ", ".join(map(str, metric.annotations.get("boundaries", ()))),
                )
                for metric in registry.metrics
            ),
        ),
        "## Events\n",
        table(
            ("event", "when", "attributes"),
            (
                (
                    f"`{event.name}`",
                    event.brief,
                    ", ".join(f"`{n}`{MARK[level]}" for n, level in event.levels.items()),
                )
                for event in registry.events
            ),
        ),
        "## Attributes\n",
        table(
            ("attribute", "type", "meaning", "values"),
            (
                (
                    f"`{a.key}`",
                    f"`{a.type}`" + (", OpenTelemetry's" if a.imported else ""),
                    f"{a.brief} {a.note}",
                    code(m["value"] for m in registry.members(a.key)),
                )
                for a in registry.attributes.values()
            ),
        ),
    ]
    for title, key in (
        ("Outcomes", "dataface.outcome"),
        ("Surfaces", "dataface.surface"),
        ("Layers", "dataface.catalog.layer"),
    ):
        rows = ((f"`{member['value']}`", member["brief"]) for member in registry.members(key))
        out += [f"## {title}\n", table(("value", "meaning"), rows)]
    return "\n".join(out)


# -- the lock --------------------------------------------------------------------------------------


def locked_names(registry: Registry) -> dict[str, str]:
    """Every name that somebody may rely on, with its type or unit and its stability."""
    names: dict[str, str] = {}
    for a in registry.attributes.values():
        status = "deprecated" if a.deprecated else a.stability
        names[f"attribute {a.key}"] = f"{a.type}, {status}"
        for m in a.members:
            status = "deprecated" if m.get("deprecated") else m["stability"]
            names[f"value {a.key} {m['value']}"] = status
    for metric in registry.metrics:
        status = "deprecated" if metric.fields.get("deprecated") else metric.stability
        names[f"metric {metric.name}"] = f"{metric.fields['instrument']} {metric.fields['unit']}, {status}"
    for kind, signals in (("event", registry.events), ("span", registry.spans)):
        for signal in signals:
            names[f"{kind} {signal.name}"] = (
                "deprecated" if signal.fields.get("deprecated") else signal.stability
            )
    return dict(sorted(names.items()))


def lock_problems(old: Mapping[str, str], new: Mapping[str, str], changelog: str) -> list[str]:
    """What of ``new`` breaks the promise of ``old``: vanished names, changes that the changelog hides."""
    problems = [
        f"{name} was dropped: keep it in the registry, with `deprecated`"
        for name in sorted(set(old) - set(new))
    ]
    return problems + [
        f"{name} changed from {old[name]!r} to {new[name]!r} and the changelog does not name it"
        for name in sorted(set(old) & set(new))
        if old[name] != new[name] and name.rsplit(" ", 1)[-1] not in changelog
    ]


def lock_file(names: Mapping[str, str]) -> str:
    head = "# Generated by tools/generate_conventions.py: the names that this project promised.\n"
    return head + yaml.safe_dump(dict(names), sort_keys=True, width=200, allow_unicode=True)


# -- the command -----------------------------------------------------------------------------------


def generate(registry: Registry) -> dict[Path, str]:
    """Every generated file, by its path."""
    return {
        CONVENTIONS / "names.py": names_module(registry),
        CONVENTIONS / "declared.py": declared_module(registry),
        ROOT / "docs" / "conventions.md": docs_page(registry),
        LOCK: lock_file(locked_names(registry)),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a file is not up to date"
    )
    check = parser.parse_args(arguments).check
    registry = read_registry()
    old: dict[str, str] = yaml.safe_load(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    changelog = ROOT / "CHANGELOG.md"
    said = changelog.read_text(encoding="utf-8") if changelog.exists() else ""
    if problems := lock_problems(old, locked_names(registry), said):
        print(*problems, sep="\n", file=sys.stderr)
        return 1
    stale = False
    for path, text in generate(registry).items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{'not up to date' if check else 'written'}: {path.relative_to(ROOT)}")
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
