"""Who may import whom, what pure files must not touch, and that nothing dangerous is used."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.shared import REPOSITORY

BRIDGE = REPOSITORY / "bridge"
FILES = sorted(BRIDGE.rglob("*.py"))
MODULES = {path: ".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in FILES}

SLICES = ("voltronic", "luxpower", "pylontech")

FORBIDDEN = {
    # who -> packages of ours it must not import
    "bridge.fields": {"bridge"},
    "bridge.errors": {"bridge"},
    "bridge.transports": {"bridge.sinks", "bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.app",
                          "bridge.publisher", "bridge.simulators", "bridge.tools", "bridge.config"},
    "bridge.sinks": {"bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.app", "bridge.publisher",
                     "bridge.simulators", "bridge.tools", "bridge.transports"},
    "bridge.publisher": {"bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.app", "bridge.config",
                         "bridge.sinks.mqtt", "bridge.sinks.broker", "bridge.simulators", "bridge.tools"},
    "bridge.config": {"bridge.sinks", "bridge.app", "bridge.publisher", "bridge.transports", "bridge.simulators"},
    "bridge.app": {"bridge.simulators", "bridge.tools", "bridge.cli"},
    "bridge.simulators": {"bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.sinks",
                          "bridge.transports", "bridge.fields", "bridge.app", "bridge.publisher"},
    "bridge.tools": {"bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.app", "bridge.publisher"},
}  # fmt: skip
for _bank in ("battery", "guard", "summary", "bank"):
    FORBIDDEN[f"bridge.{_bank}"] = {
        "bridge.voltronic", "bridge.luxpower", "bridge.pylontech", "bridge.sinks", "bridge.transports", "bridge.app",
        "bridge.publisher", "bridge.keeper", "bridge.config", "bridge.simulators", "bridge.tools",
    }  # fmt: skip
FORBIDDEN["bridge.keeper"] = FORBIDDEN["bridge.publisher"] - {"bridge.config", "bridge.sinks.mqtt"}
for _slice in SLICES:
    FORBIDDEN[f"bridge.{_slice}"] = {f"bridge.{other}" for other in SLICES if other != _slice} | {
        "bridge.sinks", "bridge.app", "bridge.publisher", "bridge.simulators", "bridge.tools",
    }  # fmt: skip

IMPURE = {"socket", "serial", "threading", "time", "paho", "select", "subprocess", "hid", "hidraw", "os"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(BRIDGE)))
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    module = MODULES[path]
    for place, forbidden in FORBIDDEN.items():
        if within(module, place):
            for name in imported(path):
                for package in forbidden:
                    assert not within(name, package) or within(name, place), f"{module} imports {name}"


def is_pure(path: Path) -> bool:
    """Everything in a slice but its devices, their readers and connections; and the shapes among the sinks."""
    if path.parent.name in SLICES:
        return not path.stem.endswith(("device", "reader", "connection", "__init__"))
    return path in {BRIDGE / name for name in PURE}


PURE = ("fields.py", "errors.py", "battery.py", "guard.py", "summary.py", "bank.py", "settings.py", "request.py",
        "lxp_bridge.py", "sinks/outbox.py", "sinks/homeassistant.py", "sinks/controls.py",
        "sinks/halves.py", "energy.py", "sinks/victron.py",
        "sinks/lxp_bridge_discovery.py", "damage.py")  # fmt: skip


@pytest.mark.parametrize("path", [p for p in FILES if is_pure(p)], ids=lambda p: str(p.relative_to(BRIDGE)))
def test_a_pure_file_touches_no_world(path: Path) -> None:
    for name in imported(path):
        assert name.split(".")[0] not in IMPURE, f"{path}: pure, but imports {name}"


def test_only_the_publisher_catches_everything() -> None:
    broad = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            if node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"):
                broad.append(str(path.relative_to(BRIDGE)))
    assert [name for name in broad if not name.startswith(("simulators", "tools"))] == ["publisher.py"]


def test_nothing_executes_data() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
        names = imported(path)
        assert not {n for n in names if n.split(".")[0] in ("pickle", "marshal", "shelve")}, path
        assert not {n for n in names if n in ("yaml.load", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader")}, path


def test_the_command_line_imports_tools_only_when_needed() -> None:
    tree = ast.parse((BRIDGE / "cli.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    ours = {node.module for node in top if node.module and node.module.startswith("bridge")}
    assert ours == {"bridge", "bridge.errors"}
