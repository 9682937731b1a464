"""What the server asks the nodes before a run: any value ends in True or a sentence."""

import inspect
from types import SimpleNamespace

import pytest

from .fuzz import STRANGE_NUMBERS, STRANGE_TEXTS, STRANGE_THINGS


def test_any_value_ends_in_a_sentence(pack):
    asked = 0
    for name, node in pack.nodes.items():
        if "validate_inputs" not in vars(node):
            continue
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        parameters = inspect.signature(node.validate_inputs).parameters.values()
        for key in [one.name for one in parameters if one.kind in kinds]:
            for value in (*STRANGE_NUMBERS, *STRANGE_TEXTS, *STRANGE_THINGS):
                said = node.validate_inputs(**{key: value})
                assert said is True or (isinstance(said, str) and said), (name, key, value)
                asked += 1
    assert asked > 500


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", " ", ".hidden", "a\0b"])
def test_a_run_of_training_stays_in_its_folder(pack, name):
    """Also by a link, of which the server's check is told nothing."""
    node = pack.nodes["RefAny3D_Train"]
    assert "plain name" in node.validate_inputs(name=name)
    any_model = SimpleNamespace(model_options={}, clone=None, encode=None)
    settings = {"steps": 1, "learning_rate": 1.0, "rank": 4, "resume": False}
    with pytest.raises(ValueError, match="Train RefAny3D LoRAs: name is .* plain name"):
        node.execute(any_model, any_model, any_model, dataset="x", name=name, **settings)
