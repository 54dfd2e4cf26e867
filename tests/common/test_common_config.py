"""Every fault of the configuration in one list, with the nearest right name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from normct.common.config import flatten, load_schema, validate_config
from normct.common.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = REPOSITORY / "workflow" / "schemas"
DEMO = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))


def merged(path: Path) -> dict:
    """A shipped config laid over the demo's, as Snakemake does."""

    def lay(under: dict, over: dict) -> dict:
        return under | {
            k: lay(under[k], v) if isinstance(v, dict) and isinstance(under.get(k), dict) else v
            for k, v in over.items()
        }

    return lay(copy.deepcopy(DEMO), yaml.safe_load(path.read_text("utf-8")))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configs_are_valid_and_name_a_results_folder(path):
    config = merged(path)
    validate_config(config, SCHEMAS)
    assert config["results_dir"] != DEMO["results_dir"]


def test_no_key_is_written_twice():
    """YAML keeps the last of two equal keys in silence."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(map(str, keys))), f"{node.start_mark}: {sorted(map(str, keys))}"
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in [
        REPOSITORY / "config.yaml",
        *SCHEMAS.glob("*.yaml"),
        *(REPOSITORY / "configs").glob("*.yaml"),
    ]:
        yaml.load(path.read_text("utf-8"), Strict)


def test_the_demo_config_is_valid():
    validate_config(DEMO, SCHEMAS)


def test_a_typo_anywhere_is_found():
    """Each key of the config, misspelt, is refused: no section lets strangers in."""

    def sections(node: dict, path: tuple[str, ...] = ()):
        yield path
        for key, value in node.items():
            if isinstance(value, dict) and (*path, key) not in {
                ("handoff", "windows"),
                ("phantom", "abnormal"),
            }:
                yield from sections(value, (*path, key))

    for path in sections(DEMO):
        config = copy.deepcopy(DEMO)
        node = config
        for key in path:
            node = node[key]
        node["zzz_typo"] = 1
        with pytest.raises(ConfigError, match="zzz_typo: unknown key"):
            validate_config(config, SCHEMAS)


def test_every_key_of_the_config_has_a_description():
    """A user reads the schema's words in an editor; a key without any, of its own or its group's, is a gap."""
    missing = []
    for name in flatten(DEMO):
        node, described = load_schema(SCHEMAS), False
        for part in name.split("."):
            node = node.get("properties", {}).get(part, {})
            described |= "description" in node
        if not described:
            missing.append(name)
    assert not missing
