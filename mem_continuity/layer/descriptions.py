"""
Endpoint descriptions: such as carry a description within them, with options of ours among its keyword arguments; and such as are
ours altogether.

Twisted's plugin system hands over a description that is taken apart already: C{continuity:tcp:143:continuityGrace=600} arrives as
arguments and keyword arguments.  Here ours are taken out, and the rest is put together again.

Invariants: every option of ours begins with C{continuity}, so that it can never be one of the endpoint below; one that is not
known, or has a value that cannot be used, is a L{ValueError} whose text names the option and what it takes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from twisted.internet.endpoints import quoteStringArgument

from mem_continuity.core.policy import Limit, Policy, PolicyError, RoamingPolicy, limits_of

PREFIX = "continuity"
"""What the name of every option of ours begins with, and the prefix of our descriptions."""

_Policy = TypeVar("_Policy", Policy, RoamingPolicy)


def join_description(args: Iterable[object], kwargs: Mapping[str, object]) -> str:
    """
    Put a description together again, colons, equals signs and backslashes in its parts escaped.

    @param args: the positional parts, the endpoint's type first.
    @param kwargs: the named parts; they follow in alphabetical order.
    """
    named = [f"{_quote(key)}={_quote(str(kwargs[key]))}" for key in sorted(kwargs)]
    return ":".join([*(_quote(str(one)) for one in args), *named])


def _quote(part: str) -> str:
    # Twisted's quoting leaves an equals sign alone, which makes a named part of a positional one.
    return str(quoteStringArgument(part)).replace("=", "\\=")


def limit_option(limit: Limit) -> str:
    """
    How a limit is spelt as an option: C{continuityAckDelay} for C{ack_delay}.
    """
    return PREFIX + "".join(word.capitalize() for word in limit.name.split("_"))


class Options:
    """
    The options of one description.  Take what is known, then call L{done}.

    @ivar rest: the keyword arguments that are the endpoint's below.
    """

    def __init__(self, kwargs: Mapping[str, object]) -> None:
        self.rest: dict[str, object] = {}
        self._ours: dict[str, str] = {}
        self._known: list[str] = []
        for key, value in kwargs.items():
            if key.startswith(PREFIX):
                self._ours[key] = str(value)
            else:
                self.rest[key] = value

    def text(self, name: str) -> str | None:
        """
        The value of C{continuityNAME}, or None when it is not given.
        """
        self._known.append(PREFIX + name)
        return self._ours.pop(PREFIX + name, None)

    def flag(self, name: str, default: bool) -> bool:
        """
        The value of C{continuityNAME}, which is yes or no.

        @raise ValueError: it is something else.
        """
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("yes", "no"):
            raise ValueError(f"{PREFIX}{name} is yes or no, not {value!r}")
        return value.lower() == "yes"

    def policy(self, kind: type[_Policy]) -> _Policy:
        """
        The limits: each is an option of its own, the rest has its default.

        @raise ValueError: a value is no number, or out of its bounds.
        """
        given: dict[str, Any] = {}
        for limit in limits_of(kind):
            option = limit_option(limit)
            value = self.text(option.removeprefix(PREFIX))
            if value is None:
                continue
            try:
                given[limit.name] = type(limit.default)(value)
            except ValueError:
                whole = "a whole number" if isinstance(limit.default, int) else "a number"
                raise ValueError(f"{option} is {value!r}, but it must be {whole} of {limit.unit}") from None
            try:
                kind(**{limit.name: given[limit.name]})
            except PolicyError as error:
                raise ValueError(option + str(error).removeprefix(limit.name)) from None
        return kind(**given)

    def done(self) -> None:
        """
        Everything known has been taken.

        @raise ValueError: something of ours is left.
        """
        if self._ours:
            wrong = ", ".join(sorted(self._ours))
            raise ValueError(f"there is no option {wrong}; there are {', '.join(sorted(self._known))}")


def require_description(args: tuple[object, ...], example: str) -> None:
    """
    @raise ValueError: no description follows the prefix.
    """
    if not args or not str(args[0]):
        raise ValueError(f"{PREFIX}: is followed by the description of an endpoint, as in {example}")


def read_toml(path: str, what: str) -> dict[str, Any]:
    """
    Read a file in TOML.

    @param what: names it in errors, as in C{the routes file}.
    @raise ValueError: it cannot be read; the text is one line.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{what} {path!r} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path!r} is no TOML: {error}") from None
    except ValueError:
        raise ValueError(f"{path!r} is no name of a file") from None


def split_description(text: str) -> list[tuple[str | None, str]]:
    """
    Take a description apart as Twisted does, except that a part in brackets needs no escapes and names may come more than once.

    @return: the parts in order: C{(None, value)} of a positional one, C{(name, value)} of an option.
    """
    parts: list[tuple[str | None, str]] = []
    name: str | None = None
    value = ""
    for plain, character in _characters(text):
        if plain and character == ":":
            parts.append((name, value))
            name, value = None, ""
        elif plain and character == "=" and name is None:
            name, value = value, ""
        else:
            value += character
    return [*parts, (name, value)]


def _characters(text: str) -> Iterator[tuple[bool, str]]:
    """
    The characters, each with whether it may have a meaning.
    """
    place, bracketed, begins = 0, False, True
    while place < len(text):
        one = text[place]
        if one == "\\" and place + 1 < len(text):
            place += 1
            yield False, text[place]
        else:
            bracketed = (bracketed or (one == "[" and begins)) and one != "]"
            yield not bracketed, one
        begins = one == ":" and not bracketed
        place += 1


class NamedOptions:
    """
    The named parts of one description of ours that Twisted does not take apart.

    @raise ValueError: one is not known, or not for this kind, or stands there twice.
    """

    def __init__(self, kind: str, known: Collection[str], given: Iterable[tuple[str, str]], repeated: str = "") -> None:
        """
        @param kind: what stands at the head of the description.
        @param known: the names of its options.
        @param repeated: the one that may come more than once.
        """
        self._given: dict[str, list[str]] = {}
        for name, value in given:
            if name not in known:
                raise ValueError(f"{kind}: has no option {name!r}; it has {', '.join(sorted(known))}")
            if not value:
                raise ValueError(f"{name}= has no value")
            if name in self._given and name != repeated:
                raise ValueError(f"{name}= stands there twice")
            self._given.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """
        The values of an option that may be repeated or be a list with commas.
        """
        return [one for value in self._given.get(name, []) for one in value.split(",")]

    def text(self, name: str) -> str | None:
        """
        The value of an option; C{None} when it is not given.
        """
        return self._given.get(name, [None])[0]

    def flag(self, name: str) -> bool:
        """
        The value of an option that is yes or no; not given means no.
        """
        value = (self.text(name) or "no").lower()
        if value not in ("yes", "no"):
            raise ValueError(f"{name} is yes or no, not {value!r}")
        return value == "yes"
