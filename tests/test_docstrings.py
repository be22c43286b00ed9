"""Docstrings are the specification: every name in them is one of what they specify."""

import ast
import builtins
import keyword
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "archsim"
CLASS = re.compile(r"([A-Z]\w*)``")
NAME = re.compile(r"(?<!`)``(?!__)([A-Za-z_]\w*)``(?!`)")


def code(tree):
    """All names that stand in code: variables, attributes, parameters, keywords, definitions, imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.rpartition(".")[2]


def values(tree):
    """Strings that are one name: the choices of a field, columns, kinds of operations."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


class Package:
    """Files of the package by their path, and what each may speak of."""

    def __init__(self, sources):
        self.trees = {path: ast.parse(text) for path, text in sources.items()}
        top = [node for tree in self.trees.values() for node in tree.body]
        self.classes = {node.name: node for node in top if isinstance(node, ast.ClassDef)}
        self.public = {node.name for node in top if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        self.public |= {path.stem for path in self.trees} | set(dir(builtins)) | set(keyword.kwlist)
        self.values = {path: set(values(tree)) for path, tree in self.trees.items()}
        self.files = {path: set(self.of_file(path)) for path in self.trees}

    def inherited(self, node):
        """Names in the code of a class and of those that it inherits from."""
        yield from code(node)
        for base in node.bases:
            name = getattr(base, "id", None)
            if name in self.classes and self.classes[name] is not node:
                yield from self.inherited(self.classes[name])

    def of_file(self, here):
        """What any docstring of a file may use: what it defines, parameters of its functions, values in its folder."""
        tree = self.trees[here]
        yield from (name for part in tree.body for name in _bound(part))
        yield from (node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))
        imported = set(_imported(tree))
        for path, others in self.values.items():
            if path.parent == here.parent or _module(path) in imported:
                yield from others

    def known(self, path, node, inside):
        """The names that the docstring of ``node``, a definition in the class ``inside`` (or None), may use."""
        spoken_of = [self.classes[name] for name in CLASS.findall(ast.get_docstring(node)) if name in self.classes]
        own = self.inherited(node) if isinstance(node, ast.ClassDef) else code(node)
        around = self.inherited(inside) if inside is not None else ()
        others = (name for one in spoken_of for name in self.inherited(one))
        return {*own, *around, *others, *self.files[path], *self.public}

    def wrong(self):
        """Every name in a docstring that is none of what it specifies, with its place."""
        for path, tree in self.trees.items():
            for node, inside in _definitions(tree, None):
                names = set(NAME.findall(ast.get_docstring(node) or ""))
                unknown = names and names - self.known(path, node, inside)
                for name in sorted(unknown):
                    yield f"{path}:{node.lineno} {node.name}: {name}"


def _bound(part):
    """Names that a statement of a module defines."""
    match part:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.If(body=body):
            for one in body:
                yield from _bound(one)
        case ast.Assign() | ast.AnnAssign():
            yield from (node.id for node in ast.walk(part) if isinstance(node, ast.Name))
        case ast.Import() | ast.ImportFrom():
            yield from code(part)


def _module(path):
    return ".".join(path.with_suffix("").parts)


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def _definitions(tree, inside):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node, inside
            yield from _definitions(node, node if isinstance(node, ast.ClassDef) else inside)


def test_every_name_in_a_docstring_is_one_of_what_it_specifies():
    sources = {path.relative_to(PACKAGE.parent): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert list(Package(sources).wrong()) == []


@pytest.mark.parametrize(
    ("documented", "wrong"), [("mask_tensor", []), ("rows", []), ("mask", ["file.py:3 Spec: mask"]), ("None", [])]
)
def test_a_field_that_is_called_otherwise_is_found(documented, wrong):
    source = f'''from typing import NamedTuple
rows = 3
class Spec(NamedTuple):
    """The mask is ``{documented}``."""
    mask_tensor: int
'''
    assert list(Package({Path("file.py"): source}).wrong()) == wrong
