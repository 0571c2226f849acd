"""Code metrics of a directory, by default machine/: `scripts/code-figures [DIRECTORY]`."""

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
class Metric:
    """One metric of a named piece of code."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.size:>5}  {self.name}"


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    """Yield every function below `tree`, including methods and nested functions, with its dotted name."""
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
    """Return the number of lines from the `def` on."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def complexity(node: _Function) -> int:
    """Return McCabe's complexity, the number of branches plus one; nested functions count separately."""
    count = 1
    pending = list(ast.iter_child_nodes(node))
    while pending:
        inner = pending.pop()
        if isinstance(inner, _Function):
            continue
        count += isinstance(inner, _BRANCHES)
        pending.extend(ast.iter_child_nodes(inner))
    return count


def methods(node: ast.ClassDef) -> int:
    return sum(isinstance(child, _Function) for child in node.body)


def attributes(node: ast.ClassDef) -> int:
    """Count the annotated fields in the class's body and the attributes of `self` that its methods set."""
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


def count_raises_first(tree: ast.AST) -> int:
    documented = (node for node in ast.walk(tree) if isinstance(node, _Function | ast.ClassDef))
    return sum((ast.get_docstring(node) or "").startswith("Raises:") for node in documented)


def largest(metrics: list[Metric], count: int = 3) -> str:
    return "".join(f"\n    {metric}" for metric in sorted(metrics, key=lambda metric: -metric.size)[:count])


def report(directory: Path) -> str:
    files = sorted(directory.rglob("*.py"))
    if not files:
        raise SystemExit(f"code-figures: there are no Python files in {directory}")
    sizes: list[Metric] = []
    lengths: list[Metric] = []
    branching: list[Metric] = []
    method_counts: list[Metric] = []
    attribute_counts: list[Metric] = []
    raises_first = 0
    for path in files:
        text = path.read_text()
        tree = ast.parse(text)
        module = ".".join(path.relative_to(directory.parent).with_suffix("").parts)
        sizes.append(Metric(name=module, size=len(text.splitlines())))
        raises_first += count_raises_first(tree)
        for name, function in functions(tree, module):
            lengths.append(Metric(name=name, size=length(function)))
            branching.append(Metric(name=name, size=complexity(function)))
        for name, node in classes(tree, module):
            method_counts.append(Metric(name=name, size=methods(node)))
            attribute_counts.append(Metric(name=name, size=attributes(node)))
    ordered = sorted(metric.size for metric in lengths)
    complex_ones = [metric for metric in branching if metric.size > MAX_COMPLEXITY]
    median = statistics.median(ordered or [0])
    p95 = statistics.quantiles(ordered, n=20)[-1] if len(ordered) > 1 else median
    rows = [
        f"lines: {sum(metric.size for metric in sizes)} in {len(files)} modules",
        f"modules over {LONG_FILE} lines: {sum(metric.size > LONG_FILE for metric in sizes)}; longest:{largest(sizes)}",
        f"functions: {len(ordered)}; lines: median {median:.0f}, p95 {p95:.0f}; longest:{largest(lengths)}",
        f"functions with a complexity over {MAX_COMPLEXITY}: {len(complex_ones)}; highest:{largest(complex_ones)}",
        f"classes with most methods:{largest(method_counts)}",
        f"classes with most attributes:{largest(attribute_counts)}",
        f"docstrings that begin with Raises: {raises_first}",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(report(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "machine"))
