"""`traces` and `trace`: recorded calls as a list, and one of them as a tree."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from datetime import date, datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from context_telemetry.cli import documents, text
from context_telemetry.cli.place import Place, unusable
from context_telemetry.conventions import names
from context_telemetry.health import how, what_to_do
from context_telemetry.health.words import processes, some_of
from context_telemetry.history import Call, History, Span
from context_telemetry.history.records import Value
from context_telemetry.observe.reading import COORDINATES

_BAR, _TOOK = 12, 6
# Who served a call is told where that leaves room for what was asked.
_TARGET_LEAST, _TARGET_WITH_PROCESS = 16, 40
_NUMBERS = ("process", "took", "size")
_TARGETS = (names.MCP_RESOURCE_URI, names.DATAFACE_PAGE, names.DATAFACE_FACE)


@dataclass(frozen=True)
class Filter:
    """Which calls are asked for."""

    seconds: float | None
    outcome: str | None = None
    reason: str | None = None
    operation: str | None = None
    surface: str | None = None
    client: str | None = None
    pid: int | None = None
    limit: int = 20


def listing(place: Place, chosen: Filter, *, as_json: bool) -> None:
    """Print the calls that match, newest first."""
    since = None if chosen.seconds is None else time.time() - chosen.seconds
    history = History(place.folder, since=since)
    found = calls(history, chosen)
    if as_json:
        documents.show(documents.traces(found))
    else:
        trouble = "" if found else unusable(place.folder) or _nothing_recorded(place, history)
        text.console().print(Text(trouble, "yellow", overflow="fold") if trouble else table(found))


def _nothing_recorded(place: Place, history: History) -> str:
    """What to do where no call was ever recorded; empty where some were."""
    if history.files.last_written is not None:
        return ""
    return f"no calls recorded in {place.folder}: `{place.command('status')}` says why"


def is_error(word: str | None) -> bool:
    """Whether a word that stands among the reasons of a list is an `error.type` or a code, which no list closes."""
    return word == "tool_error" or (word is not None and re.fullmatch(r"[a-z_]+", word) is None)


def calls(history: History, chosen: Filter) -> list[Call]:
    """The calls that match."""
    asked = asdict(chosen)
    del asked["seconds"]  # the history's own
    return history.calls(**asked)


def table(found: Sequence[Call]) -> RenderableType:
    """The list. What went wrong has a line of its own, so that no narrow screen cuts it."""
    if not found:
        return Text("no call matches; ask for less, or look further back with --since", "dim")
    today = datetime.now().date()
    cells: dict[str, Callable[[Call], RenderableType]] = {
        "time": lambda call: _moment(call, today),
        "trace": lambda call: call.trace_id[: text.SHOWN_ID],
        "client": _who,
        "process": lambda call: "-" if call.pid is None else str(call.pid),
        "release": lambda call: call.release or "-",
        "call": lambda call: _Asked(call, _TARGET_LEAST),
        "outcome": lambda call: Text(call.outcome or "-", text.OUTCOME_STYLE.get(call.outcome or "", "")),
        "took": lambda call: text.took(call.seconds),
        "size": lambda call: text.size(call.payload_bytes),
    }

    def make(without: AbstractSet[str]) -> Table:
        shown = {name: cell for name, cell in cells.items() if name not in without}
        if "process" in shown:
            shown["call"] = lambda call: _Asked(call, _TARGET_WITH_PROCESS)
        rows = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for name in shown:
            rows.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=name != "call")
        for call in found:
            rows.add_row(*(cell(call) for cell in shown.values()))
        return rows

    return text.Fitting(make, ("release", "process", "client", "time", "took", "size"))


def _who(call: Call) -> str:
    """The client with what it speaks, as in a trace."""
    return "/".join(each for each in (call.surface, call.client) if each) or "-"


def _moment(call: Call, today: date) -> str:
    moment = datetime.fromtimestamp(call.time)
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%d %b %H:%M")


@dataclass(frozen=True)
class _Asked:
    """What was called, cut where there is no room, and below it what went wrong, which never is."""

    call: Call
    least: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._target
        if notes := self._notes:
            yield notes

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        target, notes = (
            Measurement.get(console, options, each) for each in (self._target, self._notes or Text())
        )
        least = max(min(target.maximum, self.least), notes.minimum)
        return Measurement(least, max(target.maximum, notes.maximum))

    @property
    def _target(self) -> Text:
        return Text(self.call.target.removeprefix("dataface://"), no_wrap=True, overflow="ellipsis")

    @property
    def _notes(self) -> Text:
        return Text(_notes(self.call), text.OUTCOME_STYLE.get(self.call.outcome or "", ""), overflow="fold")


def _notes(call: Call) -> str:
    error = call.error_code or call.error_type
    return ", ".join([*call.reasons, *([error] if error else [])])


def one(place: Place, trace_id: str, *, as_json: bool) -> None:
    """Print one trace. Raises TraceNotFound."""
    history = History(place.folder)
    spans = history.trace(trace_id)
    if as_json:
        documents.show(documents.trace(spans))
    else:
        text.console().print(tree(spans, place, history))


@dataclass(frozen=True)
class TraceTree:
    """The spans of one trace as a tree, with their time as bars that line up on the right."""

    spans: Sequence[Span]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        begun = min(span.start for span in self.spans)
        whole = max(span.end for span in self.spans) - begun
        moment = datetime.fromtimestamp(begun).strftime("%d %b %Y %H:%M:%S")
        head = Text.assemble(("trace ", "dim"), (self.spans[0].trace_id, "bold"), (f"  {moment}", "dim"))
        if who := self._process:
            fits = head.cell_len + 2 + len(who) <= options.max_width
            head.append(f"  {who}" if fits else f"\n{who}", "dim")
        yield head
        lines = [*self._lines(options.max_width - _BAR - _TOOK - 4)]
        rows = Table.grid(padding=(0, 2, 0, 0))
        rows.add_column(
            width=min(max(line.cell_len for line, _ in lines), options.max_width - _BAR - _TOOK - 4)
        )
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(no_wrap=True)
        for line, span in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            if span is None:
                rows.add_row(line)
            else:
                ours = span.ours
                bar = Text(_bar(span, begun, whole), _style(span) or "dim")
                rows.add_row(line, Text(text.took(span.seconds), "" if ours else "dim"), bar)
        yield rows

    @property
    def _process(self) -> str:
        pids = list(dict.fromkeys(span.pid for span in self.spans if span.pid is not None))
        releases = list(dict.fromkeys(span.release for span in self.spans if span.release))
        told = [
            *([processes(pids)] if pids else []),
            *([f"Dataface {', '.join(releases)}"] if releases else []),
        ]
        return "  ".join(told)

    def _lines(self, room: int) -> Iterator[tuple[Text, Span | None]]:
        """Each span's own line with the span, then its notes without."""
        for span, lead, below in _walk(self.spans):
            yield Text(lead, "dim").append_text(_name(span)), span
            for note in _notes_of(span, room - len(below)):
                yield Text(below, "dim").append_text(note), None


def tree(spans: Sequence[Span], place: Place, history: History) -> RenderableType:
    """The tree of one trace, and what to do about the reasons in it."""
    advice = Table.grid(padding=(0, 2, 0, 0))
    advice.add_column(no_wrap=True)
    advice.add_column(overflow="fold")
    met: dict[str, list[int]] = {}
    for span in spans:
        for reason in _strings(span.attributes.get(names.DATAFACE_DEGRADATION_REASONS)):
            met.setdefault(reason, []).extend([] if span.pid is None else [span.pid])
    for reason, pids in met.items():
        told = what_to_do(reason, list(dict.fromkeys(pids))).replace("open the trace", "look above")
        words = [told, _cause(reason, spans) or how(reason, place.folder)]
        if found := changed_then(history, reason, max(span.end for span in spans)):
            words.append(f"changed then: {some_of(found)}")
        if reason == "resource_unknown" and any(names.DATAFACE_PAGE in span.attributes for span in spans):
            words.append("the name that was asked for is not recorded, whoever links to it knows it")
        advice.add_row(Text(reason, "yellow"), "; ".join(each for each in words if each))
    return Group(TraceTree(spans), Text(), advice) if met else TraceTree(spans)


def _cause(reason: str, spans: Sequence[Span]) -> str:
    """Which of the causes that a reason can have it has in this trace; empty where the spans do not tell."""
    if reason != "context_is_error_text":
        return ""
    ours = [span.attributes for span in spans if span.ours]
    sources = [str(each.get(names.DATAFACE_CATALOG_SOURCE) or "") for each in ours if _is_failed(each)]
    if any(sources):
        return f"{some_of(list(dict.fromkeys(filter(None, sources))))} could not be read"
    asked = any(str(each.get(names.DATAFACE_OPERATION_NAME)).startswith("catalog.") for each in ours)
    in_place_of_schema = any(
        each.get(names.DATAFACE_PAYLOAD_KIND) == "schema_context"
        and reason in _strings(each.get(names.DATAFACE_DEGRADATION_REASONS))
        for each in ours
    )
    if in_place_of_schema and not asked:
        return "no source was asked: there are several, and none was named for the schema"
    return ""


def _is_failed(attributes: Mapping[str, Value]) -> bool:
    return attributes.get(names.DATAFACE_OUTCOME) == "failed"


# Changes of other levels are told, and give no call the reason.
_LEVEL = {"contract_broken": "breaking"}


def changed_then(history: History, reason: str, moment: float) -> list[str]:
    """What had changed by a moment, by what was told until then, and gives calls this reason.

    It is all that was open, whichever of it a call met.
    """
    found: dict[Value, None] = {}
    for event in history.events:
        said = event.attributes.get
        if event.name != names.EVENT_DATAFACE_CONTRACT_CHANGED or event.time > moment:
            continue
        level = _LEVEL.get(reason, said(names.DATAFACE_CONTRACT_LEVEL))
        if (reason, level) != (said(names.DATAFACE_DEGRADATION_REASON), said(names.DATAFACE_CONTRACT_LEVEL)):
            continue
        object_ = said(names.DATAFACE_CONTRACT_OBJECT)
        found.pop(object_, None)
        if said(names.DATAFACE_CONTRACT_STATE) == "opened":
            found[object_] = None
    return [str(each) for each in found]


def _walk(spans: Sequence[Span]) -> Iterator[tuple[Span, str, str]]:
    """Spans in the tree's order with what leads to their name and to the lines below it.

    A span whose parent was not recorded (a client's, or one that is still open) stands at the top.
    """
    ids = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in ids else "", []).append(span)
    pending = [(span, "", "") for span in reversed(children.get("", []))]
    while pending:
        span, lead, indent = pending.pop()
        inner = children.get(span.span_id, [])
        yield span, lead, indent + ("│  " if inner else "   ")
        for child in reversed(inner):
            last = child is inner[-1]
            pending.append((child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))


def _outcome(span: Span) -> str:
    return str(span.attributes.get(names.DATAFACE_OUTCOME, "failed" if span.failed else ""))


def _style(span: Span) -> str:
    return text.OUTCOME_STYLE.get(_outcome(span), "") if span.ours else "dim"


def _name(span: Span) -> Text:
    if not span.ours:
        return Text.assemble((span.name, "dim"), (f"  {span.scope}", "dim italic"))
    return Text.assemble((span.name, "bold"), "  ", (_outcome(span), _style(span)))


def _notes_of(span: Span, room: int) -> Iterator[Text]:
    """What is worth saying of a span, on as many lines as it takes: its reasons and error first."""
    if not span.ours:
        return
    get = span.attributes.get
    wrong = _strings(get(names.DATAFACE_DEGRADATION_REASONS))
    wrong += [str(error) for name in (names.DATAFACE_ERROR_CODE, names.ERROR_TYPE) if (error := get(name))]
    for words, style in ((wrong, _style(span)), (_details(span), "dim"), (_context(span), "dim")):
        line = ""
        for word in words:
            if line and len(line) + 3 + len(word) > room:
                yield Text(line, style)
                line = ""
            line += f" · {word}" if line else word
        if line:
            yield Text(line, style)


def _strings(value: Value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, tuple) else []


def _bar(span: Span, begun: float, whole: float) -> str:
    """Where in the trace the span ran, as a bar of constant width."""
    if whole <= 0:
        return "━" * _BAR
    first = min(int((span.start - begun) / whole * _BAR), _BAR - 1)
    last = min(max(round((span.end - begun) / whole * _BAR), first + 1), _BAR)
    return " " * first + "━" * (last - first) + " " * (_BAR - last)


def _context(span: Span) -> list[str]:
    """The fingerprint of what was given to work with, and of its parts enough to see which of them differs."""
    fingerprint = span.attributes.get(names.DATAFACE_CONTEXT_FINGERPRINT)
    if not fingerprint:
        return []
    parts = (each.partition("=") for each in _strings(span.attributes.get(names.DATAFACE_CONTEXT_PARTS)))
    return [f"context {fingerprint}", *(f"{kind} {_short(digest)}" for kind, _, digest in parts)]


def _short(digest: str) -> str:
    """Of a hash as much as is shown of ids; a state in its place (`unreadable`) is told whole."""
    return digest[: text.SHOWN_ID] if re.fullmatch(r"[0-9a-f]{16}", digest) else digest


def _details(span: Span) -> list[str]:
    get = span.attributes.get
    found: list[str] = []
    if get(names.DATAFACE_ENTRY):
        who = (get(names.DATAFACE_SURFACE), get(names.DATAFACE_CLIENT_NAME))
        found.append("/".join(str(each) for each in who if each))
    # Over MCP its name says it.
    if span.attributes.get(names.DATAFACE_OPERATION_NAME) == span.name == "tool.call":
        found.append(str(get(names.GEN_AI_TOOL_NAME)))
    if stop := get(names.DATAFACE_AGENT_STOP_REASON):
        found.append(str(stop))
    if isinstance(given := get(names.DATAFACE_CONVERSATION_SIZE), int):
        found.append(f"{text.size(given)} to the model")
    found += [str(value) for name in _TARGETS if (value := get(name))]
    if asked := [str(part) for name in COORDINATES.values() if (part := get(name))]:
        found.append(".".join(asked))
    if unresolved := get(names.DATAFACE_CATALOG_UNRESOLVED):
        found.append(f"{unresolved} unresolved")
    if get(names.DATAFACE_CACHE_HIT) is False:
        found.append("not in the cache")
    if layers := _strings(get(names.DATAFACE_CATALOG_LAYERS)):
        found.append("from " + ", ".join(layers))
    if system := get(names.DB_SYSTEM_NAME):
        found.append(str(system))
    if isinstance(rows := get(names.DB_RESPONSE_RETURNED_ROWS), int):
        found.append(text.counted(rows, "row"))
    if isinstance(charts := get(names.DATAFACE_CHARTS_TOTAL), int):
        failed = get(names.DATAFACE_CHARTS_FAILED) or 0
        found.append(f"{failed} of {text.counted(charts, 'chart')} failed")
        if not failed and "charts_failed" in _strings(get(names.DATAFACE_DEGRADATION_REASONS)):
            found.append("a query of the page itself did, as for a drop-down")
    if isinstance(size := get(names.DATAFACE_PAYLOAD_SIZE), int):
        limit = get(names.DATAFACE_PAYLOAD_LIMIT)
        found.append(text.size(size) + (f" of {text.size(limit)}" if isinstance(limit, int) else ""))
    if isinstance(age := get(names.DATAFACE_STALENESS_AGE), (int, float)):
        promise = get(names.DATAFACE_STALENESS_LIMIT)
        promised = f" of {text.lasting(promise)}" if isinstance(promise, (int, float)) else ""
        found.append(f"{get(names.DATAFACE_STALENESS_LAYER) or 'served'} {text.lasting(age)} old{promised}")
    return found
