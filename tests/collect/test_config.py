"""A collection's TOML file."""

from pathlib import Path

import pytest

from refany3d_core.collect.config import load_config
from refany3d_core.collect.engine import ranks


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [source] table"),
        ("[source", "not valid TOML"),
        ("[source]\nkind = 'folder'", "path"),
        ("[source]\npath = 'x'\nkind = 'tar'", "expected folder, webdataset, parquet, hub"),
        ("[source]\npath = 'x'\n[pose]\nfov = 'wide'", "'fov' is 'wide', expected float"),
        ("[source]\npath = 'x'\n[filter]\nmin_iou = 1", "unknown setting 'filter'"),
        ("[source]\npath = 'x'\n[servers]\nurls = 'http://a'", "'urls' is 'http://a'"),
        ("[source]\npath = 'x'\n[run]\nworkers = true", "'workers' is True, expected int"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path: Path, text: str, says: str):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match="c.toml") as refusal:
        load_config(file)
    assert says in str(refusal.value)


def test_paths_start_at_the_file(tmp_path: Path):
    file = tmp_path / "c.toml"
    file.write_text("[source]\npath = 'pictures'\n[filters]\nmin_iou = 1")
    config = load_config(file)
    assert config.path(config.source.path) == tmp_path / "pictures"
    assert config.filters.min_iou == 1 and config.filters.max_ambiguity == 0.5


def test_ranks_come_from_the_launcher(monkeypatch: pytest.MonkeyPatch):
    assert ranks() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert ranks() == (2, 4)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert ranks() == (5, 8)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="RANK is 5"):
        ranks()
