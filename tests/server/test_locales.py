"""What the nodes say in other languages."""

from __future__ import annotations

import json

import pytest
from comfyui import SetupError
from comfyui_client import Client
from make_locales import LANGUAGES, LOCALES, PHRASES, as_text, node_defs, read_phrases


def test_every_name_and_tooltip_is_translated_and_up_to_date(client: Client) -> None:
    """Rule: locales/ is what scripts/make_locales.py makes; a changed tooltip needs new translations."""
    made = node_defs(client.object_info(), read_phrases(PHRASES.read_text(encoding="utf-8")))
    for language in LANGUAGES:
        found = (LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8")
        assert found == as_text(made[language])


def test_a_missing_translation_is_named(client: Client) -> None:
    phrases = read_phrases(PHRASES.read_text(encoding="utf-8"))
    del phrases["Any NOISE."]
    phrases["Nobody says this."] = {}
    with pytest.raises(SetupError, match=r"lacks 1 phrases: \['Any NOISE.'\]\n.*Nobody says this"):
        node_defs(client.object_info(), phrases)


def test_the_server_gives_them_to_the_page(client: Client) -> None:
    told = json.loads(client.get("/i18n"))
    for language in LANGUAGES:
        guided = told[language]["nodeDefs"]["GuidanceCutoffKSampler"]["inputs"]["cutoff_guided"]
        assert guided["name"] != "guided" and "0.5" in guided["tooltip"]
