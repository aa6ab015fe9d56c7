"""Makes locales/<language>/nodeDefs.json of scripts/phrases.txt and of what the nodes say in English.

    python scripts/make_locales.py

Fails naming every phrase that has no translation, and every translation of what no node says any more.
"""

import entry

import json
from collections.abc import Iterator, Mapping
from typing import Any

import comfyui
from comfyui import ROOT, SetupError
from comfyui_server import Server

PHRASES = ROOT / "scripts" / "phrases.txt"
LOCALES = ROOT / "locales"
LANGUAGES = ("zh", "ja", "es")
PACK = "winning-tickets"
# The page's translator reads these in names and descriptions as its own syntax; in tooltips it does not.
SYNTAX = "@{}|%"

Names = dict[str, Any]


def read_phrases(text: str) -> dict[str, dict[str, str]]:
    """English to language to translation."""
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    found = {}
    for group in "\n".join(lines).strip().split("\n\n"):
        english, *others = group.strip().split("\n")
        if len(others) != len(LANGUAGES):
            raise SetupError(f"phrases.txt: {english!r} needs {len(LANGUAGES)} lines after it.")
        found[english] = dict(zip(LANGUAGES, others, strict=True))
    return found


def flatten(inputs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Full name, own name and tooltip of every input, those of dynamic combos too."""
    for kind in ("required", "optional"):
        for name, spec in inputs.get(kind, {}).items():
            settings = spec[1] if len(spec) > 1 else {}
            yield prefix + name, name, settings.get("tooltip")
            for option in settings.get("options", []):
                if isinstance(option, dict):
                    yield from flatten(option.get("inputs", {}), f"{prefix}{name}.")


def node_defs(nodes: Mapping[str, Any], phrases: Mapping[str, Mapping[str, str]]) -> dict[str, Names]:
    """Language to nodeDefs.json; `nodes` is ComfyUI's object_info. SetupError for what does not match."""
    ours = {i: n for i, n in sorted(nodes.items()) if n["python_module"] == f"custom_nodes.{PACK}"}
    said: set[str] = set()

    def translated(text: str | None, language: str, plain: bool = True) -> str | None:
        if text is None:
            return None
        said.add(text)
        found = phrases.get(text, {}).get(language, text)
        if plain and any(c in found for c in SYNTAX):
            raise SetupError(f"phrases.txt: {found!r} has one of {SYNTAX}.")
        return found

    def entry(name: str | None, tooltip: str | None, language: str) -> Names:
        named = {"name": translated(name, language), "tooltip": translated(tooltip, language, False)}
        return {key: value for key, value in named.items() if value is not None}

    made: dict[str, Names] = {language: {} for language in LANGUAGES}
    for language, (node_id, node) in ((lang, item) for lang in LANGUAGES for item in ours.items()):
        outputs = zip(node["output_name"], node["output"], node["output_tooltips"], strict=True)
        made[language][node_id] = {
            "display_name": translated(node["display_name"], language),
            "description": translated(node["description"], language),
            "inputs": {
                full.replace(".", "_"): entry(name, tooltip, language)
                for full, name, tooltip in flatten(node["input"])
            },
            "outputs": {
                str(i): entry(name if name != kind else None, tooltip, language)
                for i, (name, kind, tooltip) in enumerate(outputs)
            },
        }
    missing, unused = sorted(said - phrases.keys()), sorted(phrases.keys() - said)
    if missing or unused:
        raise SetupError(
            f"phrases.txt lacks {len(missing)} phrases: {missing}\n"
            f"It has {len(unused)} that no node says: {unused}"
        )
    return made


def as_text(names: Names) -> str:
    return json.dumps(names, ensure_ascii=False, indent=2) + "\n"


def main() -> int:
    phrases = read_phrases(PHRASES.read_text(encoding="utf-8"))
    with Server(comfyui.ensure(comfyui.from_environment()), {PACK: ROOT}) as server:
        made = node_defs(server.client.object_info(), phrases)
    for language, names in made.items():
        path = LOCALES / language / "nodeDefs.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(names), encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(names)} nodes")
    return 0


if __name__ == "__main__":
    entry.run_script(main)
