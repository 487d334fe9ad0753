"""`lac loadtest`: how many listeners does this server carry?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import trio

from lac.errors import ConfigError
from lac.loadtest.plan import Mode, Plan, Repair, check_target
from lac.loadtest.run import LoadTest

PASSWORD_VARIABLE = "LAC_LOADTEST_PASSWORD"  # noqa: S105  a name
#: Of this process, for everything but the listeners' sockets.
OTHER_FILES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "With --email (and the password in LAC_LOADTEST_PASSWORD, or asked for) it starts a show of its own, publishes "
        "audio to it and measures how late that arrives. Without, it listens to a public show that is live. A server "
        "that limits how many come from one address says so: start it with LAC_LIMITS_FACTOR=100 for the test. One "
        "that sends listeners to HLS from a number on (use_hls) has it in LAC_HLS_OFFLOAD_LISTENERS."
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument("--listeners", type=_positive, default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--shows", type=_positive, default=1, help="spread over so many shows, each with its publisher (%(default)s)"
    )
    parser.add_argument("--ramp", type=_seconds, default=5.0, metavar="S", help="over how long they come (%(default)s)")
    parser.add_argument("--duration", type=_seconds, default=15.0, metavar="S", help="how long they stay (%(default)s)")
    parser.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default="webrtc",
        help="webrtc and hls hear the audio, ws sits in the room",
    )
    parser.add_argument("--variant", choices=["opus", "opus3"], default="opus", help="of the audio (default: opus)")
    parser.add_argument(
        "--repair",
        nargs="?",
        choices=[repair.value for repair in Repair],
        const=Repair.RED.value,
        help="listeners ask for what is missing (nack), or take redundant copies besides (red, the default of these)",
    )
    parser.add_argument(
        "--lose", type=_percent, default=0.0, metavar="PERCENT", help="of what comes to a listener, thrown away unseen"
    )
    parser.add_argument(
        "--lossy", type=_percent, default=1.0, metavar="PERCENT", help="of the listeners to whom that happens (100)"
    )
    parser.add_argument(
        "--settle", type=_seconds, default=0.0, metavar="S", help="from the last one's coming until it is measured (0)"
    )
    parser.add_argument("--chatters", type=_count, default=0, help="people in the room besides the listeners")
    parser.add_argument("--chat-per-s", type=_seconds, default=5.0, help="their messages a second, of all together")
    parser.add_argument("--broadcast", metavar="ID", help="listen to this show")
    parser.add_argument("--email", help="start a show as this account")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too (- for the output)")
    parser.add_argument(
        "--yes-i-run-this-server", action="store_true", help="needed for a server on another machine than this"
    )


def run(args: argparse.Namespace) -> int:
    check_target(args.url, own_server=args.yes_i_run_this_server)
    if args.shows > 1 and (args.email is None or args.broadcast is not None):
        raise ConfigError("--shows starts shows of its own: it needs --email, and no --broadcast.")
    _allow_files(args.listeners + args.chatters + OTHER_FILES)
    plan = Plan(
        url=args.url.rstrip("/"),
        mode=Mode(args.mode),
        listeners=args.listeners,
        shows=args.shows,
        ramp_s=args.ramp,
        duration_s=args.duration,
        chatters=args.chatters,
        chat_per_s=args.chat_per_s,
        broadcast_id=args.broadcast,
        email=args.email,
        password=None if args.email is None else _password(args.email),
        variant=args.variant,
        repair=None if args.repair is None else Repair(args.repair),
        lose=args.lose,
        lossy=args.lossy,
        settle_s=args.settle,
    )
    test = LoadTest(plan, _tell)
    interrupted = False
    try:
        trio.run(test.run)
    except KeyboardInterrupt:
        interrupted = True
        test.results.broken_off = "interrupted"
    results = test.results
    if args.json is not None:
        text = json.dumps(results.as_json(), indent=2) + "\n"
        if str(args.json) == "-":
            print(text, end="")
        else:
            args.json.write_text(text, encoding="utf-8")
    if str(args.json) != "-":
        for sentence in results.sentences():
            print(sentence)
    if interrupted:
        return 130
    return 0 if results.broken_off is None and results.connected else 1


def _tell(line: str) -> None:
    """Over the last line on a terminal, one below the other elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def _password(email: str) -> str:
    import getpass

    return os.environ.get(PASSWORD_VARIABLE) or getpass.getpass(f"Password of {email}: ")


def _allow_files(needed: int) -> None:
    """Each listener needs a socket. Raises `ConfigError`."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise ConfigError(f"This process may open {hard} files, but needs {needed}. Raise it: ulimit -n {needed}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _positive(text: str) -> int:
    value = _count(text)
    if value == 0:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of people")
    return int(text)


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage") from None
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError("between 0 and 100")
    return value / 100


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError("between 0 and a million")
    return value
