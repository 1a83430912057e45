"""The help of every command of every program, and what a shell completes."""

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from program_helpers import PROGRAMS

from tsn_core.help_text import examples

COMMANDS = {
    f"{name} {word}".strip(): (program, command)
    for name, program in PROGRAMS.items()
    for word, command in (
        program.commands.items() if isinstance(program, click.Group) else [("", program)]
    )
}


def help_of(name: str, width: int) -> str:
    """Return what ``NAME --help`` prints on a terminal of some width."""
    program, *words = name.split()
    result = CliRunner().invoke(
        PROGRAMS[program], [*words, "--help"], prog_name=program, terminal_width=width
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_program_is_looked_at():
    assert {"tsn-preprocess", "tsn-train", "tsn-predict"} <= PROGRAMS.keys()
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_text_and_a_default(name):
    program, command = COMMANDS[name]
    outer = click.Context(program, **program.context_settings)
    context = click.Context(command, parent=None if command is program else outer)
    context.show_default = True
    bare = []
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            if option.name in ("help", "version"):
                continue
            record = option.get_help_record(context)
            words, _, extra = record[1].partition("[")
            if len(words.strip()) < 4 or not ("default: " in extra or "required" in extra):
                bare.append(record)
            assert record[1].count("default: ") < 2, record
    assert bare == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name):
    _, command = COMMANDS[name]
    assert examples(command)
    for line in examples(command):
        words = line.removeprefix('eval "$(').removesuffix(')"').split()
        if not name.endswith(" completion"):  # it serves all programs
            assert f"{' '.join(words)} ".startswith(f"{name} ")
        given = words[len(name.split()) :]
        with command.make_context(name, list(given)) as context:
            assert context.params


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_shows_the_examples(name, width):
    text = help_of(name, width)
    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.replace(" \\\n", " ").split())
    for line in examples(COMMANDS[name][1]):
        assert line in joined


@pytest.mark.parametrize("name", ["tsn-preprocess", "tsn-train"])
def test_the_list_of_commands_says_whole_sentences(name):
    text = " ".join(help_of(name, 80).partition("\nCommands:\n")[2].split())
    for word, command in PROGRAMS[name].commands.items():
        sentence = command.callback.__doc__.split("\n\n")[0].split(". ")[0]
        assert f"{word} {' '.join(sentence.split())}" in text


def test_only_settings_have_a_default():
    text = help_of("tsn-predict", 80)
    assert "--version " in text
    assert "Show the version and exit.\n" in text


def test_an_example_is_laid_out_to_be_copied():
    text = help_of("tsn-train crossval", 80)
    assert (
        "  Example:\n"
        "    tsn-train crossval --shards shards/hmdb51 --modality rgb --modality flow \\\n"
        "        --preset hmdb51 --out runs/hmdb51\n"
    ) in text


# --- completion ---


def completed(line: str, program: str = "preprocess") -> list[str]:
    """Return what bash would be offered at the end of a line."""
    name = f"tsn-{program}"
    words = line.split(" ")
    environment = {
        **os.environ,
        f"_TSN_{program.upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = f"from {program}.cli import main; main(prog_name={name!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tsn-preprocess ex", ["plain,extract"]),
        ("tsn-preprocess extract --dataset h", ["plain,hmdb51"]),
        (
            "tsn-preprocess extract --flow ",
            ["plain,tvl1", "plain,farneback", "plain,dis", "plain,raft"],
        ),
        ("tsn-preprocess extract --modality rgb", ["plain,rgb", "plain,rgbdiff"]),
        ("tsn-preprocess extract --out sh", ["file,sh"]),
    ],
)
def test_names_are_completed(line, offered):
    found = completed(line)
    assert [word for word in found if word in offered] == offered
    assert len(found) < 8


def test_the_trainer_completes_too():
    assert "plain,attention" in completed("tsn-train fit --consensus at", "train")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_serves_every_program(shell):
    result = CliRunner().invoke(
        PROGRAMS["tsn-preprocess"], ["completion", shell], prog_name="tsn-preprocess"
    )
    assert result.exit_code == 0
    for variable in ("_TSN_PREPROCESS_COMPLETE", "_TSN_TRAIN_COMPLETE"):
        assert f"{variable}={shell}_complete" in result.stdout
    if shutil.which(shell) and shell != "fish":
        subprocess.run([shell, "-n"], input=result.stdout, text=True, check=True)


def test_without_an_installed_package_a_program_completes_itself(monkeypatch):
    from importlib.metadata import PackageNotFoundError

    import tsn_core.completion

    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(tsn_core.completion, "distribution", missing)
    result = CliRunner().invoke(PROGRAMS["tsn-train"], ["completion", "bash"], prog_name="tsn-x")
    assert "_TSN_X_COMPLETE=bash_complete" in result.stdout
    assert "PREPROCESS" not in result.stdout
