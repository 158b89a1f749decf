"""Settings as command-line options: each declared setting becomes a flag with its help text and default."""

import datetime
import functools
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click
import yaml

from provisioner import settings


def with_settings(
    groups: Sequence[type], check: Callable[[settings.Settings], Sequence[str]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of these groups, and call it with the settings read from all three sources.

    Arguments and options of the command's own are passed on to it by name. `check` finds what is wrong with settings
    that can each be read, as for `settings.load`. Wrong settings end the command with status 2 and a list of every
    fault.
    """
    names = {field.name for field in settings.fields(groups)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_flags(config: Path | None, **given: Any) -> None:
            flags = {name: given.pop(name) for name in names}
            try:
                loaded = settings.load(groups, file=_read(config), environment=os.environ, flags=flags, check=check)
            except settings.SettingsError as error:
                raise click.UsageError(str(error)) from error
            command(loaded, **given)

        functools.update_wrapper(with_flags, command)
        decorated: Callable[..., None] = with_flags
        for field in reversed(list(settings.fields(groups))):
            decorated = _option(field)(decorated)
        return click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar=settings.ENVIRONMENT_PREFIX + "CONFIG",
            help="A YAML file of settings.",
        )(decorated)

    return decorate


def _option(field: settings.Field) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag = f"--{field.key}"
    if field.type is bool:
        # The flag's own type cannot fail; environment and file are read by `settings.load`.
        return click.option(f"{flag}/--no-{field.key}", field.name, default=None, help=_help(field))
    return click.option(flag, field.name, default=None, metavar=_metavar(field.type), help=_help(field))


def _help(field: settings.Field) -> str:
    shown = _shown(field.default)
    return f"{field.help} [default: {shown}]" if shown else field.help


def _shown(default: Any) -> str:
    match default:
        case bool():
            return "on" if default else "off"
        case datetime.timedelta():
            total = int(default.total_seconds())
            for size, unit in ((3600, "h"), (60, "m")):
                if total and total % size == 0:
                    return f"{total // size}{unit}"
            return f"{total}s"
        case None | "":
            return ""
        case Mapping():
            return ",".join(f"{name}={path}" for name, path in default.items())
        case _:
            return str(default)


def _metavar(wanted: Any) -> str:
    if typing.get_origin(wanted) is Literal:
        return "|".join(typing.get_args(wanted))
    if typing.get_origin(wanted) is types.UnionType:
        return "PATH"
    return _METAVARS.get(wanted, "NAME=PATH,…")


_METAVARS = {
    str: "TEXT",
    settings.Bytes: "SIZE",
    settings.Count: "NUMBER",
    Path: "PATH",
    datetime.timedelta: "DURATION",
}


def _read(config: Path | None) -> Mapping[str, Any]:
    """The settings of the file.

    Raises:
        settings.SettingsError: it is not a mapping in YAML.
    """
    if config is None:
        return {}
    try:
        content = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise settings.SettingsError([f"--config {config}: it cannot be read as YAML: {error}"]) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise settings.SettingsError([f"--config {config}: it is not a mapping of settings to values"])
    return content
