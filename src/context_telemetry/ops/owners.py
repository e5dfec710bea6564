"""Who owns what: the model of owners.yaml, and what is said of a mistake in it.

Routes, labels, the support table and CODEOWNERS lines are made of it; how is in `alerts` and `support`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from context_telemetry.limits.model import Strict
from context_telemetry.ops.documents import Document, DocumentError, KeyPath, meant, parse_all, read_text

FILE: Final = "owners.yaml"
VERSION: Final = 1
"""The version of the file's format that this release reads and writes."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine alone: good for a trial and for nothing else."""
    return (urlsplit(url).hostname or "") in _LOOPBACK


def _is_web(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not a web address; begin it with http:// or https://")
    if parts.password:
        raise ValueError("has a password in it; secrets stand in files that Alertmanager reads")
    return url.rstrip("/")


# Labels of alerts, names in Alertmanager and headings are made of these.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=60)]
# Shown on one line of a page, in tables of Markdown and in Alertmanager's templates.
Words = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\n\r|{}`<>]*$", max_length=200)]
Given = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r{}]*$", max_length=500)]
Web = Annotated[str, AfterValidator(_is_web)]


class Links(Strict):
    """What the links in a page begin with; each without a slash at its end."""

    runbooks: Web
    dashboards: Web
    traces: Web


class Surfaces(Strict):
    """Surface to role. A field per surface of the conventions' closed list."""

    mcp: Name
    agent: Name
    dashboard: Name
    ide: Name
    cli: Name
    library: Name


class Components(Strict):
    """Component to role; `surface` is who gets an alert about a surface that is not in `Surfaces`."""

    surface: Name
    catalogue: Name
    ai_context: Name
    telemetry: Name


class Role(Strict):
    """One role: who has it, how to reach them, who is next, and the receivers that tell them.

    What is empty is not filled in: `Owners.unfilled` lists it.
    """

    names: tuple[Words, ...] = ()
    contact: Words = ""
    channel: Words = ""
    hours: Words = ""
    handle: Words = ""
    escalation: tuple[Name, ...]
    page: tuple[Name, ...]
    ticket: tuple[Name, ...]

    @property
    def reached(self) -> str:
        """How to reach the role, in one line: names, contact, channel; empty while nothing is filled in."""
        return ", ".join(filter(None, (" and ".join(self.names), self.contact, self.channel)))


class Webhook(Strict):
    """An HTTP address that takes Alertmanager's JSON."""

    kind: Literal["webhook"]
    url: Web | None = None
    url_file: Given | None = None
    credentials_file: Given | None = None


class Email(Strict):
    """A mail server, and to whom it sends."""

    kind: Literal["email"]
    to: Given
    sender: Given = Field(alias="from")
    smarthost: Annotated[str, StringConstraints(pattern=r"^[^\s:{}]+:\d+$")]
    auth_username: Given | None = None
    auth_password_file: Given | None = None


class PagerDuty(Strict):
    """PagerDuty's Events API v2, or what speaks the same."""

    kind: Literal["pagerduty"]
    routing_key_file: Given
    url: Web | None = None


class Slack(Strict):
    """A webhook of Slack, or of what speaks the same, as Mattermost."""

    kind: Literal["slack"]
    api_url_file: Given
    channel: Given | None = None


Receiver = Annotated[Webhook | Email | PagerDuty | Slack, Field(discriminator="kind")]
_KINDS: Final[Mapping[str, type[BaseModel]]] = {
    "webhook": Webhook,
    "email": Email,
    "pagerduty": PagerDuty,
    "slack": Slack,
}


_TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "links": Links,
    "surfaces": Surfaces,
    "components": Components,
}


class Owners(Strict):
    """The whole of owners.yaml. `loads` makes it, and checks that every name in it is defined."""

    version: Literal[1]
    profile: Literal["trial", "production"] = "trial"
    links: Links
    surfaces: Surfaces
    components: Components
    roles: dict[Name, Role]
    default: Name
    watchdog: Name
    receivers: dict[Name, Receiver]

    def owner(self, component: str, surface: str | None = None) -> str:
        """The role that owns a component; of component `surface`, the one that owns that surface."""
        found = self.surface_owners.get(surface or "") if component == "surface" else None
        return found or str(getattr(self.components, component))

    @property
    def surface_owners(self) -> Mapping[str, str]:
        """Surface to role."""
        return dict(self.surfaces)

    @property
    def owning(self) -> Sequence[str]:
        """The roles that an alert can belong to, in the order of `roles`."""
        owning = {*self.surface_owners.values(), *dict(self.components).values()}
        return [role for role in self.roles if role in owning]

    def owned_by(self, role: str) -> list[str]:
        """What a role owns, in words: `surface mcp`, `catalogue`."""
        surfaces = [f"surface {name}" for name, owner in self.surfaces if owner == role]
        behind = [name for name, owner in self.components if owner == role and name != "surface"]
        return surfaces + behind

    def unfilled(self) -> list[tuple[KeyPath, str]]:
        """What a production profile needs and this file has not, as (key, what to do)."""
        return list(self._unfilled())

    def _unfilled(self) -> Iterator[tuple[KeyPath, str]]:
        for name, role in self.roles.items():
            for key, what in _NEEDED.items():
                if not getattr(role, key):
                    yield ("roles", name, key), f"is not filled in; {what}"
        for key, url in self.links:
            if is_loopback(url):
                yield ("links", key), f"{url} is an address of this machine; give one that all owners reach"
        for name, receiver in self.receivers.items():
            here = getattr(receiver, "url", None)
            if here and is_loopback(here):
                yield ("receivers", name, "url"), f"{here} is an address of this machine; give the real one"


_NEEDED: Final[Mapping[str, str]] = {
    "names": "name the people who have the role",
    "contact": "say how to reach them at once",
    "channel": "say where it is talked about",
    "hours": "say when they are there",
    "escalation": "name the roles that are next",
}


# -- reading -------------------------------------------------------------------------------------------------


def default_text() -> str:
    """The owners.yaml that comes with the library: the launch's roles, with nobody's name in it."""
    return resources.files("context_telemetry.ops").joinpath(FILE).read_text(encoding="utf-8")


def defaults() -> Owners:
    """The owners of `default_text`."""
    return loads(default_text(), FILE)


def load(path: Path) -> Owners:
    """The owners in a file. Raises `DocumentError` with every problem there is."""
    return loads(read_text(path), str(path))


def loads(text: str, name: str) -> Owners:
    """The owners in a text, which errors call ``name``, with every name in it defined.

    Raises `DocumentError` with every problem there is.
    """
    document, problems = parse_all(text, name)
    version = document.values.get("version")
    if isinstance(version, int) and version > VERSION:
        # Alone: what else a newer format has is no mistake.
        words = f"this release reads version {VERSION}, and this is {version}; upgrade context-telemetry"
        raise DocumentError([document.problem(("version",), words)])
    misshapen: set[KeyPath] = set()
    owners = None
    try:
        owners = Owners.model_validate(document.values)
    except ValidationError as error:
        for details in error.errors():
            misshapen.add(_path(details["loc"]))
            problems.append(_told(document, details))
    problems += [
        document.problem(path, words)
        for path, words in _undefined(document.values, misshapen)
        if not any(path[: len(each)] == each for each in misshapen)  # of which more is told already
    ]
    if owners is None or problems:
        raise DocumentError(document.in_order(dict.fromkeys(problems)))
    return owners


def _undefined(values: Mapping[str, Any], misshapen: Set[KeyPath]) -> Iterator[tuple[KeyPath, str]]:
    """Names that are not defined, and receivers that tell nobody, as (key, what and fix).

    Of a document that may have values of a wrong shape: they are passed over, and so is what may only follow from them.
    """
    roles, receivers = _mapping(values.get("roles")), _mapping(values.get("receivers"))
    for table in ("surfaces", "components"):
        for key, role in _mapping(values.get(table)).items():
            yield from _unless((table, key), "role", role, roles)
    yield from _unless(("default",), "role", values.get("default"), roles)
    yield from _unless(("watchdog",), "receiver", values.get("watchdog"), receivers)
    used = {str(values.get("watchdog"))}
    for name, role in roles.items():
        here: KeyPath = ("roles", name)
        role = _mapping(role)
        for index, after in _names(role.get("escalation")):
            at = (*here, "escalation", index)
            yield from _unless(at, "role", after, roles)
            if after == name:
                yield at, f"{after!r} escalates to itself; name another role"
            elif after in role["escalation"][:index]:
                yield at, f"{after!r} is there twice; keep one of them"
        for severity in ("page", "ticket"):
            told = role.get(severity)
            if told == []:
                yield (*here, severity), f"has no receiver: nobody would be told; {_one_of(list(receivers))}"
            for index, each in _names(told):
                used.add(each)
                yield from _unless((*here, severity, index), "receiver", each, receivers)
                if each in role[severity][:index]:
                    yield (*here, severity, index), f"{each!r} is there twice; keep one of them"
    for name, receiver in receivers.items():
        if not any(each[:2] == ("receivers", name) for each in misshapen):
            yield from _addressed(("receivers", name), receiver)
        if name not in used and not any(_tells(each) for each in misshapen):
            yield ("receivers", name), "tells nobody; name it in a role's page or ticket, or take it out"


def _tells(path: KeyPath) -> bool:
    """Whether what stands there may name receivers."""
    return path[0] == "watchdog" or (path[0] == "roles" and (len(path) < 3 or path[2] in ("page", "ticket")))


def _addressed(path: KeyPath, receiver: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    def given(key: str) -> bool:
        return receiver.get(key) is not None

    if receiver["kind"] == "webhook" and given("url") == given("url_file"):
        yield path, "needs one of url and url_file, and not both"
    if receiver["kind"] == "email" and given("auth_username") != given("auth_password_file"):
        yield path, "needs auth_username and auth_password_file together, or neither"


def _unless(
    path: KeyPath, what: str, name: object, known: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    # Where none is defined, that is the mistake.
    if known and isinstance(name, str) and name not in known:
        yield path, f"{what} {name!r} is not defined; {meant(name, known)}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: object) -> Iterator[tuple[int, str]]:
    """The names in a list, with their place in it."""
    for index, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, str):
            yield index, each


def _one_of(known: Sequence[str]) -> str:
    return f"name one of {', '.join(known)}" if known else "define one below receivers"


# -- what is said of a mistake -------------------------------------------------------------------------------


def _told(document: Document, details: ErrorDetails) -> str:
    path = _path(details["loc"])
    kind = details["type"]
    value = details["input"]
    if kind == "extra_forbidden":
        fix = meant(str(path[-1]), _keys(document, path[:-1]))
        return document.problem(path, f"there is no such key; {fix}")
    if kind == "missing":
        return document.problem(path, f"is missing; add it: {_EXPECTED.get(path[-1], 'a value')}")
    if path[-1] == "[key]":  # pydantic's word for the key itself
        return document.problem(path[:-1], f"is not a name; write it as {_A_NAME}")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = value.get("kind") if isinstance(value, dict) else None
        wrong = f"kind {tag!r} is not known" if tag is not None else "has no kind"
        return document.problem((*path, "kind"), f"{wrong}; {meant(str(tag or ''), _KINDS)}")
    if kind == "string_pattern_mismatch":
        return document.problem(path, f"{_shown(value)} {_PATTERNS.get(_field(path), _NO_NAME)}")
    if kind == "literal_error":
        return document.problem(path, f"{_shown(value)} is not known; it is {_LITERALS[path[-1]]}")
    if kind == "value_error" and "password" in str(details["ctx"]["error"]):
        return document.problem(path, str(details["ctx"]["error"]))  # which is not to be repeated here
    if kind == "value_error":
        return document.problem(path, f"{value!r} {details['ctx']['error']}")
    return document.problem(path, f"{_shown(value)} {_IS_NOT.get(kind, _fallback(details))}")


def _path(loc: tuple[str | int, ...]) -> KeyPath:
    """Where pydantic found it, without the kind that it puts behind a receiver's name."""
    if loc[0] == "receivers" and len(loc) > 3 and loc[2] in _KINDS:
        return (*loc[:2], *loc[3:])
    if loc[0] == "receivers" and len(loc) == 3 and loc[2] in _KINDS:
        return loc[:2]
    return loc


def _keys(document: Document, path: KeyPath) -> list[str]:
    """The keys that there are at a path."""
    model: type[BaseModel] = Owners
    if path[:1] == ("roles",):
        model = Role
    elif path[:1] == ("receivers",):
        model = _KINDS[document.values["receivers"][path[1]]["kind"]]
    elif path:
        model = _TABLES[str(path[0])]
    return [field.alias or name for name, field in model.model_fields.items()]


def _field(path: KeyPath) -> str:
    """The key that a value belongs to, also as an item of its list."""
    return str(next((part for part in reversed(path) if isinstance(part, str)), ""))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fallback(details: ErrorDetails) -> str:
    return f"is not accepted: {details['msg'].lower()}"


_A_NAME: Final = "catalogue-owner: small letters, digits and single hyphens"
_EXPECTED: Final[Mapping[str | int, str]] = {
    "version": f"`version: {VERSION}`",
    "kind": f"one of {', '.join(_KINDS)}",
    "escalation": "a list of roles, the next first, as [launch-coordinator]",
    "page": "a list of receivers",
    "ticket": "a list of receivers",
    "roles": "role to names, contact, channel, hours, escalation, page and ticket",
    "receivers": "receiver to kind and address",
    "default": "the role that gets what no route names",
    "watchdog": "the receiver of the alert that always fires",
    **dict.fromkeys(("runbooks", "dashboards", "traces"), "a web address"),
    **dict.fromkeys((*Surfaces.model_fields, *Components.model_fields), "the role that owns it"),
}
_NO_NAME: Final = f"is not a name; write it as {_A_NAME}"
_NO_LINE: Final = "has a character that does not fit on a page; write it on one line, without | { } ` < >"
_PATTERNS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("names", "contact", "channel", "hours", "handle"), _NO_LINE),
    **dict.fromkeys(("to", "from", "auth_username"), _NO_LINE),
    **dict.fromkeys(("url_file", "credentials_file", "auth_password_file"), _NO_LINE),
    **dict.fromkeys(("routing_key_file", "api_url_file"), _NO_LINE),
    "smarthost": "is not a mail server; write it as host:port",
}
_LITERALS: Final[Mapping[str | int, str]] = {
    "version": f"{VERSION}",
    "profile": "trial or production",
    "kind": f"one of {', '.join(_KINDS)}",
}
_IS_NOT: Final[Mapping[str, str]] = {
    "string_type": "is not text; put it in quotes",
    "tuple_type": "is not a list; write [one, two]",
    "dict_type": "is not a mapping; write keys with a colon below it",
    "model_type": "is not a mapping; write keys with a colon below it",
    "model_attributes_type": "is not a mapping; write keys with a colon below it",
    "string_too_short": "is empty; give it, or leave the key out",
    "string_too_long": "is too long for one line of a page; shorten it",
}
