#!/usr/bin/env python3
"""The command line: serve (default), token, user, epoch, doctor; parses, calls app, exits."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from collections.abc import Callable, Sequence

from app import commands
from app.mongod import to_stderr
from app.settings import CannotStart, Described, Settings, describe, is_truth, load

_SETTINGS = tuple(describe())
_USAGE = "run.py [COMMAND] [--SETTING VALUE ...]"
_EPILOG = """\
Every setting is a variable as well: COPYDESK_PORT for --port. A flag beats a variable. Secrets are better given as
variables, because other users of a machine can read command lines.
"""


def main(argv: Sequence[str]) -> int:
    """Run one command. Returns the exit code: 0, 1 where it could not be done, 2 where it was not understood."""
    arguments = _parser().parse_args(_with_values(argv))
    try:
        names = {setting.name for setting in _SETTINGS}
        chosen = {name: text for name, text in vars(arguments).items() if name in names}
        settings = load(chosen, signing=arguments.run is not _doctor)
        run: Callable[[Settings, argparse.Namespace], int] = arguments.run
        return run(settings, arguments)
    except CannotStart as problem:
        sys.stderr.write(f"copydesk: {problem}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(settings: Settings, _arguments: argparse.Namespace) -> int:
    from app.main import serve  # noqa: PLC0415 - the other commands need none of the server and start at once

    return serve(settings)


def _token(settings: Settings, arguments: argparse.Namespace) -> int:
    return _print(
        [
            commands.token(
                settings,
                sub=arguments.sub,
                roles=arguments.role,
                ttl_seconds=arguments.ttl,
                name=arguments.name,
                email=arguments.email,
            )
        ]
    )


def _add_user(settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise CannotStart("There is no terminal to ask for the password; give it with --password-stdin.")
    else:
        password = getpass.getpass(f"Password for {arguments.user}: ")
        if getpass.getpass("Once more: ") != password:
            raise CannotStart("The two passwords differ.")
    adding = commands.add_user(
        settings,
        name=arguments.user,
        password=password,
        roles=arguments.role,
        full_name=arguments.name,
        email=arguments.email,
    )
    return _print(asyncio.run(adding))


def _list_users(settings: Settings, _arguments: argparse.Namespace) -> int:
    return _print(asyncio.run(commands.list_users(settings)))


def _disable_user(settings: Settings, arguments: argparse.Namespace) -> int:
    return _print(asyncio.run(commands.set_disabled(settings, name=arguments.user, disabled=True)))


def _enable_user(settings: Settings, arguments: argparse.Namespace) -> int:
    return _print(asyncio.run(commands.set_disabled(settings, name=arguments.user, disabled=False)))


def _epoch(settings: Settings, _arguments: argparse.Namespace) -> int:
    return _print(asyncio.run(commands.new_epoch(settings)))


def _doctor(settings: Settings, arguments: argparse.Namespace) -> int:
    from app.doctor import doctor  # noqa: PLC0415 - the other commands need none of it and start at once

    token = sys.stdin.readline().strip() if arguments.token_stdin else ""
    examining = doctor(
        settings, arguments.url, direct=arguments.direct, token=token, quick=arguments.quick, say=to_stderr
    )
    lines, well = asyncio.run(examining)
    _print(lines)
    return 0 if well else 1


def _print(lines: list[str]) -> int:
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


# -- the grammar ------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = _new(argparse.ArgumentParser, prog="run.py", usage=_USAGE, epilog=_EPILOG)
    parser.description = "Copydesk keeps the editors of a CMS in step, live from MongoDB."
    parser.set_defaults(run=_serve)
    # `prog`, because the usage of a command would begin with the whole usage of the program.
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", prog="run.py")
    serve = _new(verbs.add_parser, name="serve", usage=_USAGE, help="run the server (the default)", epilog=_EPILOG)
    _add_settings(serve)

    token = _command(verbs, "token", "print a token for the API", _token)
    token.add_argument("--sub", required=True, metavar="NAME", help="whom it is for")
    _add_person(token)
    token.add_argument(
        "--ttl", type=_seconds, default="1h", metavar="SPAN", help="how long it is good: 90s, 15m, 1h, 7d"
    )

    users = _new(verbs.add_parser, name="user", help="add, list, disable and enable users").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    add = _command(users, "add", "add a user who signs in with a password", _add_user)
    add.add_argument("user", metavar="NAME")
    _add_person(add)
    add.add_argument("--password-stdin", action="store_true", help="read the password from the first line of the input")
    _command(users, "list", "show everybody who was added or seen", _list_users)
    for verb, run, summary in (
        ("disable", _disable_user, "lock a user out, everywhere and at once"),
        ("enable", _enable_user, "let a disabled user in again"),
    ):
        _command(users, verb, summary, run).add_argument("user", metavar="NAME")

    epoch = _command(verbs, "epoch", "after a restore from files, have every client read again", _epoch)
    epoch.add_argument("--new", action="store_true", required=True, help="begin a new one; restart all processes then")

    doctor = _command(verbs, "doctor", "say what does not get through to a server, and what to change", _doctor)
    doctor.epilog = (
        "With a token (run.py token ... | run.py doctor ... --token-stdin) it tries what needs a sign-in as well.\n"
        "With --mongodb-uri, or its variable, it looks at that MongoDB too. Exit code 1: there is something to change."
    )
    doctor.add_argument("url", metavar="URL", help="the address that browsers use, such as https://copydesk.example")
    doctor.add_argument("--direct", metavar="URL", help="one process past the proxy, such as http://127.0.0.1:8888")
    doctor.add_argument("--token-stdin", action="store_true", help="read a token from the first line of the input")
    doctor.add_argument("--quick", action="store_true", help="do not measure how long quiet connections live")

    _add_settings(parser)
    return parser


def _new(make: Callable[..., argparse.ArgumentParser], **arguments: object) -> argparse.ArgumentParser:
    return make(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments)


def _command(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Callable[[Settings, argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = _new(
        verbs.add_parser,
        name=name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="It takes the same settings as the server (see run.py --help), above all --data-dir and --mongodb-uri.",
    )
    _add_settings(parser, hidden=True)
    parser.set_defaults(run=run)
    return parser


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        help="editor, admin or service (none given: editor), or the name of a group; may be repeated",
    )
    parser.add_argument("--name", help="the name that others see")
    parser.add_argument("--email", help="where mail goes to")


def _add_settings(parser: argparse.ArgumentParser, *, hidden: bool = False) -> None:
    """All settings as flags. What is not given leaves no trace, so that a command keeps what stood before it."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in _SETTINGS:
        group = groups.setdefault(setting.group, parser.add_argument_group(setting.group)) if not hidden else parser
        group.add_argument(
            setting.flag,
            dest=setting.name,
            default=argparse.SUPPRESS,
            metavar=_metavar(setting),
            help=argparse.SUPPRESS if hidden else _help(setting),
        )


def _metavar(setting: Described) -> str:
    if setting.switch:
        return "true|false"
    return {"integer": "N", "number": "N", "path": "PATH"}.get(setting.type.split(",")[0], "TEXT")


def _help(setting: Described) -> str:
    default = f" (default: {setting.default})" if setting.default else ""
    choice = f" {setting.type[0].upper()}{setting.type[1:]}." if setting.type.startswith("one of") else ""
    return (setting.description + choice + default).replace("%", "%%")


def _with_values(argv: Sequence[str]) -> list[str]:
    """`--demo` alone means `--demo=true`; said here because argparse would take the next word for the value."""
    switches = {setting.flag for setting in _SETTINGS if setting.switch}
    following = [*argv, ""][1:]
    return [
        f"{word}=true" if word in switches and not is_truth(after) else word
        for word, after in zip(argv, following, strict=True)
    ]


def _seconds(text: str) -> int:
    try:
        return commands.seconds(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
