"""Nothing is lost and nothing is there twice: killed processes, several at once, a full disk."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import scenes

from refany3d_core.collect.config import load_config
from refany3d_core.collect.engine import Plan
from refany3d_core.collect.export import export
from refany3d_core.collect.store import Record, keys

pytestmark = pytest.mark.long

HERE = Path(__file__).parent


def check_whole(config: Path, work: Path, names: list[str]) -> None:
    """Every record is there, done, once; the export too."""
    plan = Plan(load_config(config))
    found = list(keys(work))
    assert sorted(key.rsplit("-", 1)[0] for key in found) == sorted(names)
    states = [plan.state(Record(work, key)) for key in found]
    assert Counter(state.stage + " " + state.status for state in states if state) == {
        "filters done": len(names)
    }
    for key in found:  # nothing half done is left in a name that counts
        assert {p.name for p in (work / "records" / key).iterdir() if p.name[0] != "."} == set(
            plan.names
        )


@pytest.fixture
def tars(pictures: Path, tmp_path: Path) -> Path:
    """The configuration of a stream, whose place is kept."""
    return scenes.write_tars(tmp_path, pictures)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("world", [1, 2])
def test_killed_in_every_stage_it_goes_on(tars: Path, tmp_path: Path, world: int):
    work = tmp_path / "work"
    command = [sys.executable, HERE / "killed.py", tars, work, str(world)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["last"] == [0] * world
    stages = [*Plan(load_config(tars)).names, "place"]
    assert {moment.split(":")[0] for moment in said["died"]} == set(stages)
    assert len(said["died"]) >= 20
    check_whole(tars, work, [f"{n:02d}" for n in range(12)])


def test_a_full_disk_stops_the_run_and_the_next_one_finishes(pictures: Path, tmp_path: Path):
    """The limit on a file's size stands for the disk: no write beyond it, an OSError."""
    config = scenes.write_config(tmp_path / "c.toml", pictures)
    config.write_text(config.read_text().replace("[source]", "[source]\nlimit = 3"))
    work = tmp_path / "work"
    command = [sys.executable, "-m", "refany3d_core.collect", "run", config, "--output", work]
    limited = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, -1)); sys.argv = sys.argv[1:]; "
        "runpy.run_module('refany3d_core.collect', run_name='__main__')"
    )
    pytest.importorskip("resource")
    full = subprocess.run(
        [sys.executable, "-c", limited, *map(str, command[2:])], capture_output=True, text=True,
        cwd=HERE.parents[1],
    )  # fmt: skip
    assert full.returncode == 1 and "File too large" in full.stderr, full.stderr[-2000:]
    assert "Traceback" not in full.stderr and "free" in full.stderr
    free = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1])
    assert free.returncode == 0, free.stderr[-2000:]
    assert "| filters | 3 | 3 (100%) | 0 | 0 | 0 |" in free.stdout
    check_whole(config, work, ["00", "01", "02"])
    assert export(Plan(load_config(config)), work, tmp_path / "dataset") == (3, 3)
