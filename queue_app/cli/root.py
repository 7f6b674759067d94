"""The root of the commands: those of this room, and those of the rooms above it.

What needs a provider or a job type's own parts is a module in `tasks/commands`, called as its command and with an
`app`. It is found by listing the folder and loaded when its name is typed, or the help names all.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import typer
from typer.core import TyperGroup

ROOM = "tasks.commands"


def commands_above() -> list[str]:
    """The commands of the rooms above, by listing the folder."""
    folder = importlib.import_module(ROOM)
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg)


class RootGroup(TyperGroup):
    """All commands; those above are loaded one by one."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [*super().list_commands(ctx), *commands_above()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them."""
        if found := super().get_command(ctx, cmd_name):
            return found
        if cmd_name not in commands_above():
            return None
        command = typer.main.get_command(importlib.import_module(f"{ROOM}.{cmd_name}").app)
        command.name = cmd_name
        return command
