"""Which names a program loads although nothing has bound them on every way there."""

import ast
import builtins


def unbound(program: str) -> list[str]:
    """Names loaded before they are bound; what a branch or a loop binds is bound within it alone."""
    found: list[str] = []
    _run(ast.parse(program).body, {*dir(builtins), "__name__"}, found)
    return found


def _run(statements, bound, found):
    """Checks statements in turn; `bound` gets what they bind."""
    for statement in statements:
        _statement(statement, bound, found)


def _statement(node, bound, found):
    match node:
        case ast.Import() | ast.ImportFrom():
            bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        case ast.FunctionDef():
            _loads([*node.decorator_list, *node.args.defaults], bound, found)
            bound.add(node.name)
            given = [*node.args.args, node.args.vararg, node.args.kwarg]
            _run(node.body, bound | {argument.arg for argument in given if argument}, found)
        case ast.ClassDef():
            _loads(node.bases, bound, found)
            _run(node.body, bound | set(), found)
            bound.add(node.name)
        case ast.For():
            _loads([node.iter], bound, found)
            _run(node.body, bound | _stores(node.target), found)
        case ast.While() | ast.If():
            _loads([node.test], bound, found)
            for body in (node.body, node.orelse):
                _run(body, bound | set(), found)
        case ast.With():
            _loads([item.context_expr for item in node.items], bound, found)
            names = set().union(*(_stores(item.optional_vars) for item in node.items if item.optional_vars))
            _run(node.body, bound | names, found)
        case ast.Try():
            for body in (node.body, *(handler.body for handler in node.handlers), node.finalbody):
                _run(body, bound | set(), found)
        case ast.AugAssign():
            changed = [ast.Name(name, ast.Load()) for name in _stores(node.target)]
            _loads([*changed, node.value, node.target], bound, found)
        case ast.Assign():
            _loads([node.value, *node.targets], bound, found)
            bound.update(*map(_stores, node.targets))
        case _:
            _loads([node], bound, found)


def _stores(target):
    return {node.id for node in _names(target) if isinstance(node.ctx, ast.Store)}


def _names(node):
    return [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]


def _loads(nodes, bound, found):
    """Notes the names that expressions load, but for those that they bind themselves."""
    for node in nodes:
        own = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.comprehension):
                own |= _stores(inner.target)
            if isinstance(inner, ast.Lambda):
                own |= {argument.arg for argument in inner.args.args}
        loaded = (name.id for name in _names(node) if not isinstance(name.ctx, ast.Store))
        found += [name for name in loaded if name not in bound | own]
