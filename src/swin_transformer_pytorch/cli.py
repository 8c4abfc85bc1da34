"""The `swin` command: finds the sub-command, parses its options, and turns a user's mistake into one line.

Each sub-command is a module of `commands` with `add_arguments(parser)` and `run(options) -> exit code`. It may have
`epilog()`, where help says more than the options, and `rewrite(words)`, for what the parser cannot express. None of
them imports torch before `run`, so that help and listings answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType

from .commands.errors import EXIT_INTERRUPTED, UsageError
from .extras import MissingExtraError
from .threads import have_threads_wait_briefly

COMMANDS = {
    "demo": "show the shipped models, train a small one from scratch, and save pictures of it all",
    "predict": "classify, detect or segment files, folders and globs of images",
    "video": "the same for the frames of a video, a stream or a camera",
    "train": "train or fine-tune by a recipe, on your own folder of photos if you like",
    "explain": "show what a model looks at: Grad-CAM, and the attention of its windows, as pictures",
    "evaluate": "measure a model on labelled or annotated images",
    "data": "tell what a folder of images holds, before training: layout, classes, sizes, problems",
    "shards": "pack images into tar files with an index, for millions of them or for a store; index such files",
    "scenes": "write a small data set of scenes for detection and segmentation, from images in the package",
    "export": "write a model as a file that runs without this package: ONNX, OpenVINO, PyTorch's, in 8 bits",
    "web": "show a page and a JSON API at which models answer for images",
    "convert": "rewrite a checkpoint in another library's format",
    "models": "list the models and their public weights",
    "benchmark": "measure speed and memory here, beside other libraries",
    "doctor": "show what is installed, which kernels are active, and what is missing",
}

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PACKAGE = __name__.partition(".")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit code.

    0 is success, 1 that some of the input was bad (each is named on stderr), 2 a user's mistake (one message on
    stderr; SWIN_DEBUG=1 shows the traceback), 130 an interrupt.
    """
    have_threads_wait_briefly()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\nswin: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if os.environ.get("SWIN_DEBUG", "0") not in ("", "0") or not is_users_mistake(error):
            raise
        print(f"swin: error: {error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # the disk that it goes to is full
            _forget_output()
        return EXIT_USAGE


def _forget_output() -> None:
    """What is still buffered would fail again at exit, with a message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_users_mistake(error: Exception) -> bool:
    """Whether a message is enough: our own complaints and those about files. Anything else is a bug of ours."""
    if isinstance(error, MissingExtraError | argparse.ArgumentError):
        return True
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in _FULL
    if not isinstance(error, ValueError):
        return False
    raised_in = error.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    modules = [type(error).__module__]
    if raised_in is not None:
        modules.append(raised_in.tb_frame.f_globals.get("__name__", ""))
    return any(module.partition(".")[0] == _PACKAGE for module in modules)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_OK
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        from . import __version__

        print(f"swin {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command {name!r}; {hint}")
    command = importlib.import_module(f"{_PACKAGE}.commands.{name}")
    parser = build_parser(name, command)
    if {"-h", "--help"} & set(rest):
        parser.epilog = command.epilog(rest) if hasattr(command, "epilog") else None
        parser.print_help()
        return EXIT_OK
    try:
        options = parser.parse_args(command.rewrite(rest) if hasattr(command, "rewrite") else rest)
    except argparse.ArgumentError as error:
        raise UsageError(_explain(error, parser, name)) from error
    code = command.run(options)
    assert isinstance(code, int)
    return code


def build_parser(name: str, command: ModuleType) -> argparse.ArgumentParser:
    """The parser of one sub-command; its description is the module's docstring."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=f"swin {name}",
        description=command.__doc__,
        formatter_class=_help_formatter(),
        exit_on_error=False,
    )
    command.add_arguments(parser)
    return parser


def _help_formatter() -> type[argparse.HelpFormatter]:
    """jsonargparse's, which shows types and defaults, but with a description's own line breaks."""
    import jsonargparse

    class HelpFormatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    return HelpFormatter


def _overview() -> str:
    lines = [f"  {name:<10} {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: swin COMMAND [options]",
            "",
            "Swin Transformer: predict, train, evaluate and convert.",
            "",
            "commands:",
            *lines,
            "",
            "`swin COMMAND --help` explains one; `swin --version` shows the version.",
        ]
    )


def _explain(error: argparse.ArgumentError, parser: argparse.ArgumentParser, name: str) -> str:
    """The parser's message, with the options that an unknown one may have meant."""
    message = " ".join(str(error).split()).rstrip(".")
    message = re.sub(r'^Parser key "([^"]+)":', lambda key: f"--{key[1].replace('_', '-')}:", message)
    message = re.sub(r"<class '([^']+)'>", r"\1", message)
    options = [option for option in parser._option_string_actions if option.startswith("--")]
    start = "the following arguments are required: "
    if message.startswith(start):
        swallows_rest = {action.dest for action in parser._actions if action.nargs == argparse.REMAINDER}
        names = [name for name in message.removeprefix(start).split(", ") if name not in swallows_rest]
        message = start + ", ".join(f"--{name}" if f"--{name}" in options else name for name in names)
    if message.startswith("unrecognized arguments:"):
        unknown = [word.partition("=")[0] for word in message.split()[2:] if word.startswith("-")]
        near = [match for word in unknown for match in difflib.get_close_matches(word, options, n=3)]
        if near:
            message += f"; did you mean {' or '.join(dict.fromkeys(near))}?"
    return f"{message} (`swin {name} --help` lists the options)"
