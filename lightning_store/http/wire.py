"""How each operation's arguments and answer are written in a request and its response, derived from the contract."""

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Optional, Union, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError
from typing_extensions import Required, TypedDict

from lightning_store.contract import Unset
from lightning_store.errors import InvalidRequestError
from lightning_store.http.protocol import read_json, write_json
from lightning_store.operations import OPERATIONS, Operation
from lightning_store.records import AttemptedRollout, PaginatedResult, Rollout, constructed
from lightning_store.spans import Span

LATEST: Final = "latest"

_UNIONS: Final = (Union, types.UnionType)
_LISTS: Final = (list, Sequence)
_MAPPINGS: Final = (dict, Mapping)


def _kind_of_rollout(value: Any) -> str:
    is_attempted = "attempt" in value if isinstance(value, dict) else hasattr(value, "attempt")
    return "attempted" if is_attempted else "plain"


_ANY_ROLLOUT: Final = Annotated[
    Annotated[AttemptedRollout, Tag("attempted")] | Annotated[Rollout, Tag("plain")], Discriminator(_kind_of_rollout)
]
"""A rollout has the key `attempt` exactly when it has attempts."""


def _answer_type(annotation: Any) -> Any:
    """What the answer of a method is read as: a rollout may be one with an attempt wherever one can be."""
    if annotation is Rollout:
        return _ANY_ROLLOUT
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in _UNIONS:
        return Union[tuple(_answer_type(part) for part in parts)]  # noqa: UP007 - there may be any number of them
    if origin in _LISTS:
        return list[_answer_type(parts[0])]  # type: ignore[misc]
    if origin in _MAPPINGS:
        return dict[parts[0], _answer_type(parts[1])]  # type: ignore[misc,valid-type]
    return annotation


_NEED_A_BODY: Final = frozenset({
    "query_attempts", "query_rollouts", "query_workers", "update_attempt", "update_rollout"
})  # fmt: skip
"""Everything in these bodies may be left out, but not the body itself: upstream refuses that as a mistake."""


def item_type(annotation: Any) -> Any:
    """The records of a page; None if the annotation is of no page."""
    if inspect.isclass(annotation) and issubclass(annotation, PaginatedResult):
        return annotation.__pydantic_generic_metadata__["args"][0]
    return None


def _argument_type(parameter: inspect.Parameter, *, may_be_null: bool) -> Any:
    """What an argument is read as. Whether null is one is left to the store, where it may be refused by name."""
    annotation: Any = parameter.annotation
    if get_origin(annotation) in _UNIONS:
        annotation = Union[tuple(part for part in get_args(annotation) if part is not Unset)]  # noqa: UP007
    if may_be_null and annotation is not Any:
        annotation = Optional[annotation]  # noqa: UP045 - it is a value here
    return Required[annotation] if parameter.default is inspect.Parameter.empty else annotation


def is_list(annotation: Any) -> bool:
    """Whether an argument takes several values."""
    parts = get_args(annotation) if get_origin(annotation) in (*_UNIONS, Required) else (annotation,)
    return any(get_origin(part) in _LISTS or (part is not annotation and is_list(part)) for part in parts)


@dataclass(frozen=True)
class Codec:
    """The regular form: arguments that the path does not carry are fields of the body or query.

    Attributes:
        operation: The row that this is the form of.
        success: Status of an answer.
    """

    operation: Operation
    success: int = 200

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        """Arguments in the path, in its order."""
        parts = (self.operation.path or "").split("/")
        return tuple(part[1:-1] for part in parts if part.startswith("{"))

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Arguments that the path does not carry."""
        every = self.operation.signature.parameters
        return {name: parameter for name, parameter in every.items() if name not in self.path_names}

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What these are read as."""
        is_update = self.operation.name.startswith("update_")
        return {name: _argument_type(each, may_be_null=is_update) for name, each in self.parameters.items()}

    @cached_property
    def arguments(self) -> TypeAdapter[Any]:
        """Reads a body."""
        return TypeAdapter(TypedDict(self.name, self.fields, total=False))  # type: ignore[operator]

    @property
    def name(self) -> str:
        """The operation's name as that of a class."""
        return "".join(word.capitalize() for word in self.operation.name.split("_"))

    @cached_property
    def lists(self) -> frozenset[str]:
        """Arguments that may stand several times in a query."""
        return frozenset(name for name, annotation in self.fields.items() if is_list(annotation))

    @property
    def answer_type(self) -> Any:
        """What an answer is read as; of a page its items."""
        annotation = self.operation.signature.return_annotation
        item = item_type(annotation)
        return _answer_type(annotation) if item is None else list[_answer_type(item)]  # type: ignore[misc]

    @cached_property
    def answer(self) -> TypeAdapter[Any]:
        """Reads an answer."""
        return TypeAdapter(self.answer_type)

    # -- the server's side -------------------------------------------------------------------------------------------

    def read_body(self, body: bytes) -> dict[str, Any]:
        """The arguments in a body; what was left out is absent.

        Raises:
            ValidationError: One is missing or ill-typed, or the body is no JSON.
        """
        may_be_missing = self.operation.name not in _NEED_A_BODY
        return self._arguments_of(validated(self.arguments, b"{}" if may_be_missing and not body else body))

    def read_query(self, query: bytes) -> dict[str, Any]:
        """The same from a query."""
        given: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="surrogatepass")
        except ValueError as error:
            raise InvalidRequestError(f"query: expected escapes of UTF-8 text, got {query[:200]!r}") from error
        for name, value in pairs:
            if name in self.lists:
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        return self._arguments_of(self.arguments.validate_python(given))

    def _arguments_of(self, given: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = given
        return arguments

    def write_answer(self, result: Any, arguments: Mapping[str, Any]) -> bytes:
        """The body of an answer."""
        return write_json(result)

    # -- the client's side -------------------------------------------------------------------------------------------

    def write_body(self, arguments: Mapping[str, Any]) -> bytes:
        """The body of a request; the arguments in the path are left out."""
        return write_json({name: value for name, value in arguments.items() if name in self.parameters})

    def read_answer(self, body: bytes, arguments: Mapping[str, Any]) -> Any:
        """What the method answers."""
        return validated(self.answer, body)


class PageCodec(Codec):
    """A page of records, read as a mapping."""

    @property
    def answer_type(self) -> Any:
        """See above."""
        fields = {"items": super().answer_type, "limit": int, "offset": int, "total": int}
        return TypedDict(f"{self.name}Page", fields)  # type: ignore[operator]

    def read_answer(self, body: bytes, arguments: Mapping[str, Any]) -> PaginatedResult[Any]:
        """A page."""
        return constructed(PaginatedResult, validated(self.answer, body))


class CreationCodec(Codec):
    """A call that creates something: null is as good as nothing, except for the task itself."""

    def _arguments_of(self, given: Any) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value is not None or name == "input"}

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Null is allowed everywhere."""
        return {name: _argument_type(each, may_be_null=True) for name, each in self.parameters.items()}


class BareCodec(Codec):
    """The body is one argument itself."""

    @property
    def argument(self) -> str:
        """Its name."""
        return next(iter(self.parameters))

    @cached_property
    def arguments(self) -> TypeAdapter[Any]:
        """Reads a body."""
        return TypeAdapter(self.parameters[self.argument].annotation)

    def read_body(self, body: bytes) -> dict[str, Any]:
        """See above; there is no such thing as an empty body."""
        return {self.argument: validated(self.arguments, body)}

    def write_body(self, arguments: Mapping[str, Any]) -> bytes:
        """See above."""
        return write_json(arguments[self.argument])


class NumberCodec(Codec):
    """The answer is `{"sequence_id": n}`."""

    def write_answer(self, result: Any, arguments: Mapping[str, Any]) -> bytes:
        """See above."""
        return write_json({"sequence_id": result})

    def read_answer(self, body: bytes, arguments: Mapping[str, Any]) -> Any:
        """See above."""
        return read_json(body)["sequence_id"]


class WorkerCodec(Codec):
    """A heartbeat: null stats are refused by name here, because the store takes them for a mistake of the program."""

    def _arguments_of(self, given: Any) -> dict[str, Any]:
        if "heartbeat_stats" in given and given["heartbeat_stats"] is None:
            raise InvalidRequestError("heartbeat_stats: expected an object, got null")
        return super()._arguments_of(given)


class SpansCodec(Codec):
    """Many spans: the answer says which of them were stored and under which numbers, instead of all of them again."""

    def write_answer(self, result: Any, arguments: Mapping[str, Any]) -> bytes:
        """`{"stored": [[place, sequence_id], ...]}`, places as in the request."""
        places: dict[tuple[str, str, str], int] = {}
        for place, span in enumerate(arguments["spans"]):
            places.setdefault(_identity(span), place)
        return write_json({"stored": [[places[_identity(span)], span.sequence_id] for span in result]})

    def read_answer(self, body: bytes, arguments: Mapping[str, Any]) -> list[Span]:
        """The spans that were given, or copies with their numbers."""
        spans = arguments["spans"]
        stored = read_json(body)["stored"]
        if not arguments.get("renumber", False):
            return [spans[place] for place, _ in stored]
        return [spans[place].model_copy(update={"sequence_id": number}) for place, number in stored]


def _identity(span: Span) -> tuple[str, str, str]:
    return span.rollout_id, span.attempt_id, span.span_id


def validated(adapter: TypeAdapter[Any], body: bytes) -> Any:
    """A body as the adapter wants it.

    Raises:
        ValidationError: It is not.
    """
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        try:
            value = read_json(body)  # takes more than pydantic does: lone surrogates
        except ValueError:
            raise error from None
    return adapter.validate_python(value)


_CREATED: Final = 201
_IRREGULAR: Final[dict[str, type[Codec]]] = {
    "start_rollout": CreationCodec,
    "add_resources": BareCodec,
    "update_resources": BareCodec,
    "add_span": BareCodec,
    "add_many_spans": SpansCodec,
    "get_next_span_sequence_id": NumberCodec,
    "update_worker": WorkerCodec,
}
_CREATES: Final = {
    "start_rollout",
    "enqueue_many_rollouts",
    "start_attempt",
    "add_resources",
    "add_span",
    "add_many_spans",
}


def codec_of(operation: Operation) -> Codec:
    """The form of an operation that has a route."""
    is_page = item_type(operation.signature.return_annotation) is not None
    kind = PageCodec if is_page else _IRREGULAR.get(operation.name, Codec)
    return kind(operation, _CREATED if operation.name in _CREATES else 200)


CODECS: Final[dict[str, Codec]] = {row.name: codec_of(row) for row in OPERATIONS.values() if row.path is not None}
"""By operation."""
