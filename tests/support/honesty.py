"""What a test must not be, found in its syntax tree: one that cannot fail, one that knows private names."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("callanalytics", "ensemble", "jobs", "reports")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
# Each takes a collection and has as many elements, or none if it has none.
_SAME_LENGTH = {
    "enumerate",
    "sorted",
    "reversed",
    "list",
    "tuple",
    "set",
    "zip",
    "map",
    "dict.items",
    "range",
}
# Of pytest and Playwright: each raises when what is said is not so.
_RAISES = {"raises", "warns", "fail", "deprecated_call", "wait_for"}


@dataclass(frozen=True)
class Finding:
    """A place in a test file and what is wrong there."""

    path: Path
    line: int
    test: str
    what: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} {self.test or 'module'}: {self.what}"


def python_files(folder: Path) -> list[Path]:
    """Every Python file below a folder."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


# Tests that cannot fail ----------------------------------------------------------------------------------


def unable_to_fail(path: Path, helpers: frozenset[str]) -> Iterator[Finding]:
    """Tests of a file without one assertion that is always reached and says something.

    Args:
        path: A test file.
        helpers: Names of functions elsewhere that assert (`asserting_helpers`).
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = frozenset(name for name, _ in _asserting_functions(tree, helpers))
    filled = _filled_names(tree.body, frozenset())
    for test in _tests(tree):
        local = filled | _filled_names(test.body, filled)
        look = _Look(local, helpers | own, _shown_filled(test))
        if not look.firm(test.body):
            what = "asserts only where the loop may not run" if look.loose else "asserts nothing"
            yield Finding(path, test.lineno, test.name, what)
        for node in ast.walk(test):
            if isinstance(node, ast.Assert) and _always_true(node.test):
                yield Finding(path, node.lineno, test.name, "asserts what is always true")


def _filled_names(statements: Iterable[ast.stmt], filled: frozenset[str]) -> frozenset[str]:
    """Names that statements give to collections with something in them."""
    return frozenset(
        target.id
        for node in statements
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and _is_filled(node.value, filled)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    )


def asserting_helpers(folder: Path) -> frozenset[str]:
    """Names of the functions below a folder that assert something whenever they are called."""
    found: frozenset[str] = frozenset()
    for path in python_files(folder):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {name for name, _ in _asserting_functions(tree, frozenset())}
    return found


def _asserting_functions(tree: ast.Module, known: frozenset[str]) -> list[tuple[str, ast.AST]]:
    """Functions of a module, tests aside, that assert firmly, by themselves or through each other."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, FUNCTIONS) and not node.name.startswith("test_")
    ]
    found: dict[str, ast.AST] = {}
    while True:
        look = [f for f in functions if f.name not in found]
        more = {
            f.name: f
            for f in look
            if _Look(frozenset(), known | frozenset(found), _shown_filled(f)).firm(f.body)
        }
        if not more:
            return list(found.items())
        found.update(more)


class _Look:
    """Whether statements reach an assertion that can fail.

    Args:
        filled: Names of constants that are collections with something in them.
        helpers: Names of functions that assert.
        shown: Source of expressions that the test asserts to be something.
    """

    def __init__(self, filled: frozenset[str], helpers: frozenset[str], shown: frozenset[str]) -> None:
        self.filled, self.helpers, self.shown = filled, helpers, shown
        self.loose = False

    def firm(self, statements: Iterable[ast.stmt]) -> bool:
        """True when one of the statements asserts, whatever the data are."""
        found = [self._statement(statement) for statement in statements]  # all of them: `loose` is noted
        return True in found

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Assert):
            empty_passes = self._vacuous(node.test)
            self.loose = self.loose or empty_passes
            return not empty_passes and not _always_true(node.test)
        if isinstance(node, ast.For | ast.AsyncFor):
            inside = self.firm(node.body)
            if inside and not self._filled(node.iter):
                self.loose = True
                return False
            return inside or self.firm(node.orelse)
        if isinstance(node, ast.While):
            return self.firm(node.body)
        if isinstance(node, ast.If):
            then, other = self.firm(node.body), self.firm(node.orelse)
            self.loose = self.loose or then or other
            return then and other
        if isinstance(node, ast.With | ast.AsyncWith):
            return any(self._asserts(item.context_expr) for item in node.items) or self.firm(node.body)
        if isinstance(node, ast.Try):
            return self.firm(node.body) or self.firm(node.finalbody) or self.firm(node.orelse)
        if isinstance(node, FUNCTIONS | ast.ClassDef):
            return False
        return self._asserts(node)

    def _asserts(self, node: ast.AST) -> bool:
        """A call of something that asserts: pytest's own, a helper, `check=True`, an unpacking of rows."""
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                name = _name(part.func)
                if name.rsplit(".", 1)[-1] in _RAISES | self.helpers or name.rsplit(".", 1)[-1].startswith(
                    ("assert_", "expect")
                ):
                    return True
                if any(
                    k.arg == "check" and isinstance(k.value, ast.Constant) and k.value.value is True
                    for k in part.keywords
                ):
                    return True
        return False

    def _filled(self, iterated: ast.expr) -> bool:
        return _is_filled(iterated, self.filled) or bool(_sources(iterated) & self.shown)

    def _vacuous(self, test: ast.expr) -> bool:
        """`all(...)`, `not any(...)` and `not [...]` over what may be empty hold of nothing at all."""
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            return all(self._vacuous(part) for part in test.values)
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        inner = test.operand if negated else test  # type: ignore[attr-defined]
        made: ast.expr | None = None
        if isinstance(inner, ast.Call) and _name(inner.func) == ("any" if negated else "all") and inner.args:
            made = inner.args[0]
        elif negated:
            made = inner
        if isinstance(made, ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            return not self._filled(made.generators[0].iter)
        return False


def _shown_filled(test: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    """Source of what a test asserts something of outside of loops, so that it can hardly be empty.

    Generous: whatever stands in an assertion counts, but for what `not` denies and what `all` runs over.
    """
    shown: set[str] = set()
    todo: list[ast.AST] = list(test.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.With | ast.AsyncWith | ast.Try | ast.Assert):
            todo += ast.iter_child_nodes(node)
        elif (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)) or (
            isinstance(node, ast.Call) and _name(node.func) in {"all", "any"}
        ):
            continue
        elif isinstance(node, ast.expr):
            shown.add(ast.unparse(node))
            todo += ast.iter_child_nodes(node)
        elif isinstance(node, ast.comprehension):
            todo.append(node.iter)
    return frozenset(shown)


def _sources(iterated: ast.expr) -> set[str]:
    """What is iterated and, through functions that keep the length, what that is made of."""
    found = {ast.unparse(iterated)}
    if isinstance(iterated, ast.Call):
        name = _name(iterated.func)
        if name in _SAME_LENGTH:
            for argument in iterated.args:
                found |= _sources(argument)
        elif isinstance(iterated.func, ast.Attribute):
            found |= _sources(iterated.func.value)  # `found.items()`, `text.splitlines()`
    elif isinstance(iterated, ast.Subscript | ast.Starred):
        found |= _sources(iterated.value)
    elif isinstance(iterated, ast.GeneratorExp | ast.ListComp) and not iterated.generators[0].ifs:
        found |= _sources(iterated.generators[0].iter)
    return found


def _is_filled(node: ast.expr, filled: frozenset[str]) -> bool:
    """A literal with elements, a range, a constant of the module; the same through `sorted` and the like."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(not isinstance(e, ast.Starred) or _is_filled(e.value, filled) for e in node.elts)
    if isinstance(node, ast.Dict):
        return bool(node.keys)
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Name):
        return node.id in filled or node.id.isupper()
    if isinstance(node, ast.Attribute):
        return node.attr.isupper()
    if isinstance(node, ast.BinOp):
        return _is_filled(node.left, filled) or _is_filled(node.right, filled)
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
        return all(not g.ifs and _is_filled(g.iter, filled) for g in node.generators)
    if isinstance(node, ast.Call):
        name = _name(node.func)
        if name in {"range", "np.arange"}:
            return bool(node.args)
        if name in {"enumerate", "sorted", "reversed", "list", "tuple", "set", "dict", "frozenset"}:
            return bool(node.args) and _is_filled(node.args[0], filled)
        if name == "zip":
            strict = any(k.arg == "strict" and getattr(k.value, "value", None) is True for k in node.keywords)
            found = [_is_filled(a, filled) for a in node.args]
            return any(found) if strict else all(found)
        if name in {"dict.fromkeys", "itertools.product", "product", "itertools.pairwise"}:
            return all(_is_filled(a, filled) for a in node.args[:1])
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"items", "values", "keys", "split"}:
            return _is_filled(node.func.value, filled)
    return False


def _always_true(test: ast.expr) -> bool:
    """A constant, a tuple with elements, something compared with itself, a length that is at least 0."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Tuple | ast.List | ast.Set | ast.JoinedStr | ast.Lambda):
        return not isinstance(test, ast.Tuple | ast.List | ast.Set) or bool(test.elts)
    if isinstance(test, ast.BoolOp):
        values = [_always_true(value) for value in test.values]
        return any(values) if isinstance(test.op, ast.Or) else all(values)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right, kind = test.left, test.comparators[0], test.ops[0]
        same = ast.unparse(left) == ast.unparse(right) and not _calls(left)
        if same and isinstance(kind, ast.Eq | ast.Is | ast.LtE | ast.GtE):
            return True
        counted = isinstance(left, ast.Call) and _name(left.func) == "len"
        nothing = isinstance(right, ast.Constant) and right.value in {0, -1}
        return counted and nothing and isinstance(kind, ast.GtE)
    return False


def _calls(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call | ast.Await) for part in ast.walk(node))


# Private names -------------------------------------------------------------------------------------------


def private_names() -> frozenset[str]:
    """Every name with a leading underscore that the product gives to something of its own."""
    found: set[str] = set()
    for package in PRODUCT:
        for path in python_files(ROOT / package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, FUNCTIONS | ast.ClassDef):
                    found.add(node.name)
                elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return frozenset(name for name in found if _is_private(name))


def private_uses(path: Path, private: frozenset[str]) -> Iterator[Finding]:
    """Places of a test file that import, read or patch what a module of the product keeps to itself.

    Programs in strings are looked at too, and the words that `setattr` and `patch` get.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS | ast.ClassDef)}
    own |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _name(n.value) == "self"}
    for line, name in _private_uses(tree, private - own):
        yield Finding(path, line, "", f"uses {name}, a private name of the product")


def _private_uses(tree: ast.AST, private: frozenset[str]) -> Iterator[tuple[int, str]]:
    called_with = {
        id(argument) for call in ast.walk(tree) if isinstance(call, ast.Call) for argument in call.args
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PRODUCT:
            yield from ((line, alias.name) for alias in node.names if _is_private(alias.name))
        elif isinstance(node, ast.Attribute) and node.attr in private and _name(node.value) != "self":
            yield line, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            dotted = node.value.split(".")
            passed = id(node) in called_with and node.value in private
            if passed or (dotted[0] in PRODUCT and dotted[-1] in private):
                yield line, node.value
            elif "import " in node.value:
                yield from ((line, name) for _, name in _private_uses(_program(node.value), private))


def _program(text: str) -> ast.AST:
    """The program that a string is; an empty one where it is none."""
    try:
        return ast.parse(textwrap.dedent(text))
    except SyntaxError:
        return ast.Module([], [])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name.strip("_") != ""


def _tests(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_"):
            yield node


def _name(node: ast.AST) -> str:
    """`a.b.c` of a function that is called; what is not a name counts as its last attribute."""
    if isinstance(node, ast.Attribute):
        before = _name(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return node.id if isinstance(node, ast.Name) else ""
