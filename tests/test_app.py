"""Declaring operations: what a handler may look like, what its types become, and what is said of those that cannot be.

Annotations are strings here, as in most apps: the types of handlers stand at the top of the module.
"""

from __future__ import annotations

import enum
import json
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import DecimalMeta, Forebay, Job
from forebay.app import Body, ExecutionMode, Operation, load_app
from forebay.codec import Schema
from forebay.errors import AppError, CodecError
from forebay_gateway.payloads import PayloadCodec

Price = Annotated[Decimal, DecimalMeta(precision=9, scale=2)]


class Tint(enum.Enum):
    RED = "r"
    GREEN = "g"


@dataclass
class Point:
    x: float
    y: float = 0.0


@dataclass
class Tree:
    """A value with more below it."""

    value: int
    children: list[Tree] = field(default_factory=list)
    shadow: Tree | None = None


@dataclass
class Folder:
    name: str
    files: dict[str, File] = field(default_factory=dict)


@dataclass
class File:
    size: int
    parent: Folder | None = None


@dataclass
class Order:
    """Everything that a request may hold."""

    id: UUID
    at: datetime
    day: date
    hour: time
    price: Price
    tint: Tint
    size: Literal["small", "big"]
    picture: bytes
    corner: Point
    outline: list[Point]
    named: dict[str, Point]
    note: str | None
    either: int | str
    flag: bool = True
    discount: Price = Decimal("0.50")
    hue: Tint = Tint.GREEN
    marks: list[int | None] = field(default_factory=list)
    annotated: Annotated[int, {"of": "anything"}] = 3
    repeated: tuple[int, ...] = ()


ORDER = Order(
    id=UUID(int=5),
    at=datetime(2026, 1, 31, 8, 30, 0, 123000, tzinfo=UTC),
    day=date(2026, 1, 31),
    hour=time(8, 30),
    price=Decimal("12.50"),
    tint=Tint.RED,
    size="big",
    picture=b"\x00\xff",
    corner=Point(1.5),
    outline=[Point(1.0, 2.0)],
    named={"a": Point(3.0)},
    note=None,
    either="or",
)


@pytest.fixture
def app() -> Forebay:
    return Forebay("shop")


def typed(request: Any, result: Any = bytes) -> Callable[[Any], Any]:
    """A handler with these types."""

    def handler(request: Any) -> Any:
        return request

    handler.__annotations__ = {"request": request, "return": result}
    return handler


def body_of(kind: type) -> Body:
    app = Forebay("shop")
    app.operation()(typed(kind))
    return app.operations["handler"].request


def declared(app: Forebay, handler: Callable[..., Any], **options: Any) -> Operation:
    app.operation(name="it", **options)(handler)
    return app.operations["it"]


# what is declared


async def on_loop(request: Point, job: Job) -> Point:
    """Move a point.

    A long way.
    """
    return Point(request.x + job.attempt)


def in_thread(request: Point) -> Point:
    return request


async def opaque(image: bytes) -> bytes:
    return image


JOB = Job(id="gw-1", key="k", tenant="t", attempt=2, deadline_ms=2**40, is_replay=False)


def test_a_coroutine_runs_on_the_loop(app: Forebay) -> None:
    operation = declared(app, on_loop, tier="interactive", deadline=2)
    assert (operation.mode, operation.takes_job, operation.tier) == (ExecutionMode.ON_LOOP, True, "interactive")
    assert operation.deadline == 2.0
    assert operation.description == "Move a point."


async def test_a_coroutine_gives_an_awaitable(app: Forebay) -> None:
    running = declared(app, on_loop).call(Point(1.0), JOB)
    assert isinstance(running, Awaitable)
    assert await running == Point(3.0)


def test_a_plain_function_runs_in_a_thread_and_may_leave_out_the_job(app: Forebay) -> None:
    operation = declared(app, in_thread)
    assert (operation.mode, operation.takes_job, operation.tier) == (ExecutionMode.IN_THREAD, False, "standard")
    assert operation.call(Point(1.0), JOB) == Point(1.0)


def test_cpu_work_runs_in_a_process(app: Forebay) -> None:
    assert declared(app, in_thread, cpu=True).mode is ExecutionMode.IN_PROCESS


def test_bytes_have_a_media_type_and_no_schema(app: Forebay) -> None:
    operation = declared(app, opaque, accepts="Image/*", returns="text/html; charset=utf-8")
    assert operation.request == Body("image/*", bytes, None)
    assert operation.result == Body("text/html; charset=utf-8", bytes, None)
    assert declared(Forebay("other"), opaque).request.media_type == "application/octet-stream"


def test_a_dataclass_is_json(app: Forebay) -> None:
    operation = declared(app, in_thread)
    assert (operation.request.media_type, operation.request.python_type) == ("application/json", Point)
    assert operation.request.schema is not None
    assert operation.request.schema.name == "shop.Point"


def test_a_handler_stays_as_it_is(app: Forebay) -> None:
    assert app.operation()(in_thread) is in_thread
    assert list(app.operations) == ["in_thread"]


def test_the_operations_of_an_app_are_not_changed_from_outside(app: Forebay) -> None:
    declared(app, in_thread)
    app.operations.clear()
    assert list(app.operations) == ["it"]


# what is refused


def complaint(handler: Any, **options: Any) -> str:
    with pytest.raises(AppError) as caught:
        Forebay("shop").operation(**{"name": "it", **options})(handler)
    assert str(caught.value).startswith("operation '")
    return str(caught.value)


@pytest.mark.parametrize("name", ["", "Shop", "3d", "a b", "a" * 65, "shop\n", "über"])
def test_an_app_has_a_plain_name(name: str) -> None:
    with pytest.raises(AppError, match="lower-case letter"):
        Forebay(name)


@pytest.mark.parametrize("name", ["Thumb", "3d", "a/b", "thumb\n", "a" * 65])
def test_an_operation_has_a_plain_name(name: str) -> None:
    assert "lower-case letter" in complaint(in_thread, name=name)


def test_a_tier_is_one_that_exists() -> None:
    assert "tier 'urgent' is none of interactive, standard, bulk" in complaint(in_thread, tier="urgent")


@pytest.mark.parametrize("deadline", [0, -1, 86_401, float("nan"), float("inf"), 0.0001, "2", None])
def test_a_deadline_is_a_time_to_wait(deadline: Any) -> None:
    assert f"deadline {deadline!r} is not between" in complaint(in_thread, deadline=deadline)


def test_cpu_work_cannot_be_a_coroutine() -> None:
    assert "must be a plain def" in complaint(on_loop, cpu=True)


def test_an_operation_is_declared_once(app: Forebay) -> None:
    declared(app, in_thread)
    with pytest.raises(AppError, match="operation 'it' is declared twice in app 'shop'"):
        declared(app, opaque)


def nothing() -> bytes: ...  # type: ignore[empty-body]
def too_much(request: bytes, job: Job, more: int) -> bytes: ...  # type: ignore[empty-body]
def by_name(request: bytes, *, job: Job) -> bytes: ...  # type: ignore[empty-body]
def variadic(*requests: bytes) -> bytes: ...  # type: ignore[empty-body]
def variadic_by_name(request: bytes, **more: Any) -> bytes: ...  # type: ignore[empty-body]
def not_the_job(request: bytes, limit: int) -> bytes: ...  # type: ignore[empty-body]
def generator(request: bytes) -> Iterator[bytes]:
    yield request


async def async_generator(request: bytes) -> AsyncIterator[bytes]:
    yield request


def untyped(request): ...  # type: ignore[no-untyped-def]
def untyped_result(request: bytes): ...  # type: ignore[no-untyped-def]
def unknown_type(request: Nowhere) -> bytes: ...  # type: ignore[name-defined, empty-body]  # noqa: F821
def plain_type(request: int) -> bytes: ...  # type: ignore[empty-body]
def optional_request(request: Point | None) -> bytes: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (nothing, "not 0 parameters"),
        (too_much, "not 3 parameters"),
        (by_name, "by position, which 'job: "),
        (variadic, "by position, which '*requests: "),
        (variadic_by_name, "by position, which '**more: "),
        (not_the_job, "the second parameter, 'limit: "),
        (generator, "is a generator"),
        (async_generator, "is a generator"),
        (untyped, "the type of its request is missing"),
        (untyped_result, "the type of its result is missing"),
        (unknown_type, "its types cannot be resolved: name 'Nowhere' is not defined"),
        (plain_type, "the type of its request is <class 'int'>; it takes a dataclass or bytes"),
        (optional_request, "the type of its request is"),
    ],
)
def test_a_handler_that_could_never_be_called_is_refused(handler: Any, said: str) -> None:
    assert said in complaint(handler)


def test_the_job_may_be_optional_or_untyped(app: Forebay) -> None:
    def optional(request: bytes, job: Job | None = None) -> bytes: ...  # type: ignore[empty-body]
    def untyped_job(request: bytes, job) -> bytes: ...  # type: ignore[no-untyped-def, empty-body]

    assert declared(app, optional).takes_job
    assert declared(Forebay("other"), untyped_job).takes_job


@pytest.mark.parametrize(
    "accepts", ["image", "image/", "*", "*/png", "text/plain; charset=utf-8", "a b/c", "image/png\n"]
)
def test_a_media_type_that_no_request_has_is_refused(accepts: str) -> None:
    assert "is not a media type without parameters, or a range" in complaint(opaque, accepts=accepts)


@pytest.mark.parametrize("returns", ["png", "image/*", "image/png\r\nx-evil: 1", "text/plain; ü", ""])
def test_a_result_has_a_media_type(returns: str) -> None:
    if returns:
        assert "is not a media type" in complaint(opaque, returns=returns)
    else:
        assert declared(Forebay("shop"), opaque, returns=returns).result.media_type == "application/octet-stream"


@pytest.mark.parametrize("option", ["accepts", "returns"])
def test_a_media_type_goes_with_bytes(option: str) -> None:
    assert f"{option}='image/png' goes with bytes" in complaint(in_thread, **{option: "image/png"})


@pytest.mark.parametrize(
    "kind",
    [
        object,
        Any,
        set[int],
        dict[int, str],
        dict[str, Any],
        Decimal,
        timedelta,
        tuple[int, str],
        Point | Tree,
        bytes | str,
    ],
    ids=str,
)
def test_a_type_that_cannot_go_there_and_back_is_refused(kind: Any) -> None:
    assert "Holder" in complaint(typed(make_dataclass("Holder", [("it", kind)])))


# what the types become


def test_everything_that_a_request_may_hold_comes_back_as_it_was() -> None:
    body = body_of(Order)
    assert body.decode(body.encode(ORDER)) == ORDER


def test_a_body_written_by_an_older_version_gets_the_defaults() -> None:
    older = make_dataclass("Point", [("x", float)])
    writer = body_of(older).schema
    assert body_of(Point).decode(body_of(older).encode(older(1.5)), writer) == Point(1.5, 0.0)


def test_defaults_are_those_of_the_dataclass() -> None:
    """What the gateway fills in is what Python would have: also a decimal, whose bytes the library writes otherwise."""
    schema = body_of(Order).schema
    assert schema is not None
    given = {
        "id": str(ORDER.id),
        "at": "2026-01-31T08:30:00.123Z",
        "day": "2026-01-31",
        "hour": "08:30:00",
        "price": "12.50",
        "tint": "r",
        "size": "big",
        "picture": "AP8=",
        "corner": {"x": 1.5},
        "outline": [{"x": 1, "y": 2}],
        "named": {"a": {"x": 3}},
        "either": "or",
        "note": None,
    }
    payload = PayloadCodec(schema.text).encode(json.dumps(given).encode())
    assert body_of(Order).decode(payload) == ORDER


@given(st.decimals("-9999999.99", "9999999.99", places=2))
def test_a_decimal_default_is_the_one_that_was_written(price: Decimal) -> None:
    kind = make_dataclass("Priced", [("price", Price, price)])
    schema = body_of(kind).schema
    assert schema is not None
    read = body_of(kind).decode(PayloadCodec(schema.text).encode(b"{}"))
    assert read.price == price


def test_an_optional_decimal_has_its_default() -> None:
    for default in (None, Decimal("1.25")):
        kind = make_dataclass("Priced", [("price", Price | None, default)])
        schema = body_of(kind).schema
        assert schema is not None
        assert body_of(kind).decode(PayloadCodec(schema.text).encode(b"{}")) == kind(default)


def test_a_type_may_hold_itself() -> None:
    tree = Tree(1, [Tree(2, [Tree(3)])], Tree(4))
    body = body_of(Tree)
    assert body.decode(body.encode(tree)) == tree


def test_types_may_hold_each_other() -> None:
    folder = Folder("a", {"b": File(1, Folder("c", {"d": File(2)}))})
    for kind, value in ((Folder, folder), (File, File(3, folder))):
        body = body_of(kind)
        assert body.decode(body.encode(value)) == value


def test_a_schema_is_the_same_each_time_it_is_derived() -> None:
    texts = {schema.text for _ in range(3) if (schema := body_of(Order).schema) is not None}
    assert len(texts) == 1


def test_documentation_is_what_somebody_wrote() -> None:
    def docs(kind: type) -> object:
        schema = body_of(kind).schema
        return json.loads(schema.text).get("doc") if schema else None

    assert docs(Tree) == "A value with more below it."
    assert docs(Point) is None


@pytest.mark.parametrize("value", [None, 3, {"x": 1.0}, Tree(1), Point])
def test_a_result_of_another_type_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError, match="not the declared Point"):
        body_of(Point).encode(value)


def test_bytes_go_through_as_they_are() -> None:
    body = Body("image/png", bytes, None)
    assert body.decode(b"\x89PNG") == body.encode(b"\x89PNG") == b"\x89PNG"
    with pytest.raises(TypeError, match="not the declared bytes"):
        body.encode("text")


def test_a_payload_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CodecError):
        body_of(Point).decode(b"\x00")


def test_another_writers_payload_is_resolved() -> None:
    writer = Schema('{"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}')
    assert body_of(Point).decode(writer.encode_body({"x": 3}), writer) == Point(3.0)


# where apps are found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that are forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


GREETINGS = """
    from forebay import Forebay

    app = Forebay("greetings")
    empty = Forebay("empty")
    number = 3

    @app.operation()
    def greet(name: bytes) -> bytes:
        return name
"""


def module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))


WRONG = """
from forebay import Forebay
app = Forebay("faulty")
{}
def greet(name: bytes) -> bytes:
    return name
"""


@pytest.mark.parametrize("reference", ["greetings_module", "greetings_module:app", "greetings_module:"])
def test_an_app_is_found_by_module_and_attribute(folder: Path, reference: str) -> None:
    module(folder, "greetings_module", GREETINGS)
    assert list(load_app(reference, folder).operations) == ["greet"]


def test_an_app_is_found_in_the_current_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(folder, "local_greetings", GREETINGS)
    monkeypatch.chdir(folder)
    assert load_app("local_greetings").name == "greetings"


def test_an_app_may_be_part_of_a_package(folder: Path) -> None:
    (folder / "shop_package").mkdir()
    module(folder / "shop_package", "__init__", "")
    module(folder / "shop_package", "web", GREETINGS)
    assert load_app("shop_package.web:app", folder).name == "greetings"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("no_such_module", "there is no module 'no_such_module' in "),
        ("no_such_package.web:app", "there is no module 'no_such_package.web' in "),
        ("greetings_module:missing", "'missing' in module 'greetings_module' is nothing, not a Forebay app"),
        (
            "greetings_module:number",
            "'number' in module 'greetings_module' is of type int, not a Forebay app; there is 'app' and 'empty'",
        ),
        ("greetings_module:empty", "declares no operations"),
        ("broken_module", "needs the module 'no_such_dependency', which is not installed"),
        ("", "is not the name of a module"),
        (":app", "is not the name of a module"),
        (".greetings_module", "is not the name of a module"),
        ("./greetings_module.py", "is not the name of a module"),
        ("greetings module", "is not the name of a module"),
    ],
)
def test_an_app_that_cannot_be_found_is_told_in_a_sentence(folder: Path, reference: str, said: str) -> None:
    module(folder, "greetings_module", GREETINGS)
    module(folder, "broken_module", "import no_such_dependency")
    with pytest.raises(AppError) as caught:
        load_app(reference, folder)
    assert str(caught.value).startswith(f"app '{reference}'")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["queue", "logging"])
def test_an_app_that_would_take_the_place_of_a_module_of_python_is_refused(folder: Path, name: str) -> None:
    module(folder, name, GREETINGS)
    with pytest.raises(AppError, match=rf"{name}\.py has the name of a module of Python's own, .*; rename it$"):
        load_app(name, folder)


def test_an_operation_that_is_declared_wrongly_is_told_as_such(folder: Path) -> None:
    module(folder, "wrong_module", GREETINGS.replace("app.operation()", "app.operation(tier='x')"))
    with pytest.raises(AppError, match="operation 'greet': tier 'x'"):
        load_app("wrong_module", folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0", " cannot be imported: ZeroDivisionError: division by zero (faulty.py:1)"),
        ("import helper\nhelper.divide(0)", ": ZeroDivisionError: division by zero (helper.py:2, from faulty.py:2)"),
        ("x = 1\ndef f(:\n    pass", " cannot be imported: invalid syntax (faulty.py:2: def f(:)"),
        ("import sys\nsys.exit('no')", " cannot be imported: it ends the process with exit('no') (faulty.py:2)"),
        ("import no_such_dependency", " needs the module 'no_such_dependency', which is not installed (faulty.py:1)"),
        ("from helper import nothing", " cannot be imported: ImportError: cannot import name 'nothing'"),
        ("raise RuntimeError('two\\nlines')", ": RuntimeError: two lines (faulty.py:1)"),
        ("raise KeyError", ": KeyError (faulty.py:1)"),
        ("def __getattr__(name):\n    return 1 / 0", ": ZeroDivisionError: division by zero (faulty.py:2)"),
        (
            WRONG.format("@app.operation"),
            ": operation 'greet': write @app.operation() above it, with parentheses (faulty.py:4)",
        ),
        (
            WRONG.format("@app.operation('hi')"),
            "give its arguments by name: name, tier, deadline, cpu, ",
        ),
        (
            WRONG.format("@app.operation(teir=1)"),
            "there is no argument 'teir'; did you mean 'tier'? (faulty.py:4)",
        ),
        (WRONG.format("@app.operation(x=3)"), "there is no argument 'x'; it takes name, tier, "),
        (
            WRONG.format("@app.operation(tier='x')"),
            ": operation 'greet': tier 'x' is none of interactive, standard, bulk",
        ),
        (
            WRONG.format("@app.operation(name='jobs')"),
            ": operation 'jobs': /v1/jobs is Forebay's own; give it another name",
        ),
    ],
)
def test_a_mistake_in_an_app_is_a_sentence_with_its_lines(folder: Path, text: str, said: str) -> None:
    (folder / "helper.py").write_text("def divide(n):\n    return 1 / n\n")
    (folder / "faulty.py").write_text(text)
    with pytest.raises(AppError) as caught:
        load_app("faulty", folder)
    assert str(caught.value).startswith("app 'faulty'")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ctrl_c_while_an_app_is_imported_is_no_mistake_of_its(folder: Path) -> None:
    (folder / "slow.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_app("slow", folder)
