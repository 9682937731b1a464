"""Every name and tooltip that a node shows, in every language of the page that we serve."""

import json

import pytest

from locale_keys import ROOT, languages, missing_terms, node_definitions

pytestmark = pytest.mark.server


def test_no_term_is_missing(server):
    assert missing_terms(server.get("/object_info")) == []


def test_the_page_reads_no_text_as_a_formula():
    """vue-i18n has its own meaning for these signs."""
    for terms in languages().values():
        assert [text for text in terms.values() if set(text) & set("{}@|")] == []


@pytest.mark.parametrize("language", ["zh", "zh-TW", "ja", "ko", "fr", "es", "ru"])
def test_a_language_is_served_whole(server, language):
    expected = node_definitions(server.get("/object_info"), languages()[language])
    assert server.get("/i18n")[language]["nodeDefs"] == expected, "run scripts/locale_keys.py"
    file = ROOT / "locales" / language / "nodeDefs.json"
    assert json.loads(file.read_text(encoding="utf-8")) == expected
