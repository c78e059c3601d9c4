"""Who may import whom; what `import nanoslit` loads. Change this table with the README."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nanoslit"

# an import points to a lower layer or stays inside its own subpackage
LAYERS = [
    ["errors", "atomic", "expressions", "scratch", "tomltext"],
    ["units", "parallel", "launch"],
    ["machine"],
    ["mobility", "geometry", "protocol", "schema"],
    ["electrolyte"],
    ["case"],
    ["casefile", "estimates"],
    ["mpnp"],
    ["results"],
    ["sweep", "discovery", "circuit"],
    ["plotting", "findings"],
    ["report"],
    ["study"],
    ["job"],
    ["cli"],
    ["__main__"],
]
SIDEWAYS = {("circuit", "discovery.law")}  # the one import between side branches

# third-party package: the modules (or subpackages) that may import it
HOMES = {
    "petsc4py": ["mpnp.petsc"],
    "mpi4py": ["parallel", "mpnp.petsc"],
    "dask": ["sweep"],
    "distributed": ["sweep"],
    "dask_jobqueue": ["sweep"],
    "deap": ["discovery", "circuit.explorer"],
    "matplotlib": ["plotting"],
    "bokeh": ["report"],
}
OUTSIDE = {"sweeps", "jobs", "analysis", "tests", "conftest"}
HEAVY = ["petsc4py", "mpi4py", "dask", "distributed", "deap", "matplotlib", "numba", "h5py"]


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(tree, top=True):
    """Yield (module imported, is it at top level) of what runs, not of type checks."""
    for node in ast.iter_child_nodes(tree):
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", top
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(node, top and not inside)


def imports(name):
    return list(imports_of(ast.parse(MODULES[name].read_text())))


def internal(name):
    """Yield the modules of the package that a module imports."""
    for full, _ in imports(name):
        if full.split(".")[0] == "nanoslit":
            target = full.removeprefix("nanoslit").removeprefix(".")
            yield target if target in MODULES else target.rpartition(".")[0]


def layer(name):
    head = name.split(".")[0]
    found = [i for i, names in enumerate(LAYERS) if head in names]
    assert found, f"nanoslit/{head} has no layer yet: give it one in {__file__}"
    return found[0]


def belongs(name, home):
    return name == home or name.startswith(home + ".")


@pytest.mark.parametrize("name", [n for n in MODULES if n])
def test_imports_point_downwards(name):
    head = name.split(".")[0]
    for target in internal(name):
        if target == "" or target.split(".")[0] == head:
            continue
        if any(head == a and belongs(target, b) for a, b in SIDEWAYS):
            continue
        assert layer(target) < layer(name), f"{name} imports {target}"


@pytest.mark.parametrize("name", MODULES)
def test_heavy_packages_stay_at_home(name):
    for full, top in imports(name):
        package = full.split(".")[0]
        assert package not in OUTSIDE, f"{name} imports {full}"
        homes = HOMES.get(package)
        if homes is not None:
            assert any(belongs(name, home) for home in homes), f"{name} imports {full}"
        if package == "mpi4py":
            assert not top, f"{name} imports mpi4py at top level: keep it in a function"


def test_no_cycle_between_the_side_branches():
    for branch in ("sweep", "discovery", "circuit"):
        for name in (n for n in MODULES if belongs(n, branch)):
            others = {"sweep", "discovery", "circuit"} - {branch}
            crossing = {t for t in internal(name) if t.split(".")[0] in others}
            assert all((branch, t) in SIDEWAYS for t in crossing), (name, crossing)


@pytest.mark.parametrize(
    "statement",
    [
        "import nanoslit",
        "import nanoslit.cli",
        "import nanoslit.sweep, nanoslit.discovery, nanoslit.circuit, nanoslit.mpnp",
        "from nanoslit import read_case, Case, Electrolyte",
        "from nanoslit.casefile import case_from_toml as f; from nanoslit.units import "
        "parse_quantity as p; p('1 nm', 'm')",
    ],
)
def test_import_loads_nothing_heavy(statement):
    probe = f"import sys; {statement}; print(*sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    loaded = {module.split(".")[0] for module in child.stdout.split()}
    assert loaded.isdisjoint(HEAVY)


def test_public_names_resolve():
    import nanoslit

    for name in nanoslit.__all__:
        assert getattr(nanoslit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nanoslit.nothing
