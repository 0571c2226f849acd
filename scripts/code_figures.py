"""Figures of the code's shape: `scripts/code-figures [DIRECTORY]`, by default of machine/ in this checkout."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_COMPLEXITY = 8
LONG_FILE = 400

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension,
    ast.match_case, ast.BoolOp,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A named piece of code and one of its measures."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.size:>5}  {self.name}"


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """Every function below `tree`, methods and nested ones included, with its dotted name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _Function):
            yield f"{prefix}.{node.name}", node
        inner = f"{prefix}.{node.name}" if isinstance(node, _Function | ast.ClassDef) else prefix
        yield from functions(node, inner)


def classes(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield f"{prefix}.{node.name}", node


def length(node: _Function) -> int:
    """Lines from the `def` to the end."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def complexity(node: _Function) -> int:
    """One more than the places where the function branches, after McCabe; nested functions count for themselves."""
    count = 1
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, _Function):
            continue
        count += isinstance(inner, _BRANCHES)
        waiting.extend(ast.iter_child_nodes(inner))
    return count


def methods(node: ast.ClassDef) -> int:
    return sum(isinstance(child, _Function) for child in node.body)


def attributes(node: ast.ClassDef) -> int:
    """Fields in the class's body, and what its methods assign to on `self`."""
    names = {
        child.target.id
        for child in node.body
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
    }
    for inner in ast.walk(node):
        if (
            isinstance(inner, ast.Attribute)
            and isinstance(inner.ctx, ast.Store)
            and isinstance(inner.value, ast.Name)
            and inner.value.id == "self"
        ):
            names.add(inner.attr)
    return len(names)


def begins_with_raises(tree: ast.AST) -> int:
    documented = (node for node in ast.walk(tree) if isinstance(node, _Function | ast.ClassDef))
    return sum((ast.get_docstring(node) or "").startswith("Raises:") for node in documented)


def largest(shapes: list[Shape], count: int = 3) -> str:
    return "".join(f"\n    {shape}" for shape in sorted(shapes, key=lambda shape: -shape.size)[:count])


def report(directory: Path) -> str:
    files = sorted(directory.rglob("*.py"))
    sizes: list[Shape] = []
    lengths: list[Shape] = []
    branching: list[Shape] = []
    method_counts: list[Shape] = []
    attribute_counts: list[Shape] = []
    raises_first = 0
    for path in files:
        text = path.read_text()
        tree = ast.parse(text)
        module = ".".join(path.relative_to(directory.parent).with_suffix("").parts)
        sizes.append(Shape(name=module, size=len(text.splitlines())))
        raises_first += begins_with_raises(tree)
        for name, function in functions(tree, module):
            lengths.append(Shape(name=name, size=length(function)))
            branching.append(Shape(name=name, size=complexity(function)))
        for name, node in classes(tree, module):
            method_counts.append(Shape(name=name, size=methods(node)))
            attribute_counts.append(Shape(name=name, size=attributes(node)))
    ordered = sorted(shape.size for shape in lengths)
    complex_ones = [shape for shape in branching if shape.size > MAX_COMPLEXITY]
    median = statistics.median(ordered)
    p95 = statistics.quantiles(ordered, n=20)[-1]
    rows = [
        f"lines: {sum(shape.size for shape in sizes)} in {len(files)} modules",
        f"modules over {LONG_FILE} lines: {sum(shape.size > LONG_FILE for shape in sizes)}; longest:{largest(sizes)}",
        f"functions: {len(ordered)}; their lines: median {median:.0f}, p95 {p95:.0f}; longest:{largest(lengths)}",
        f"functions of a complexity over {MAX_COMPLEXITY}: {len(complex_ones)}; highest:{largest(complex_ones)}",
        f"methods of a class, most:{largest(method_counts)}",
        f"attributes of a class, most:{largest(attribute_counts)}",
        f"docstrings that begin with Raises: {raises_first}",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(report(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "machine"))
