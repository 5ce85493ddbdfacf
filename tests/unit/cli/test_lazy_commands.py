"""The table of commands says what the commands say themselves, and loads none of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from serve_app.cli import COMMANDS, GROUPS
from serve_app.cli.lazy_command import LazyCommand

pytestmark = pytest.mark.unit

LIGHT = ("status:status", "jobs.jobs:list_jobs", "rollouts.rollout:status", "models.models:list_models")


@pytest.mark.parametrize("words", COMMANDS)
def test_the_table_has_the_first_sentence_of_each_commands_own_help(words):
    place, short_help = COMMANDS[words]
    command = LazyCommand(words, place, short_help).load()
    assert command.help.partition("\n\n")[0] == short_help


def test_every_group_has_commands_and_every_command_of_a_group_has_its_group():
    assert {words.rpartition(" ")[0] for words in COMMANDS} == {"", *GROUPS}


def test_commands_that_look_at_what_runs_need_neither_ray_nor_catboost():
    modules = [f"serve_app.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values() if place in LIGHT]
    assert len(modules) == len(LIGHT)
    script = f"import sys, json, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    script += "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"ray", "catboost", "pandas", "sklearn", "fastapi"} & set(json.loads(done.stdout))
