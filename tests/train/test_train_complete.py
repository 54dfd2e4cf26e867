"""Every registered method is complete in each place that docs/training.md names for a new one."""

from pathlib import Path

import pytest
import torch
import yaml

from factories import METHOD_SETTINGS
from normct.common.registry import METHODS
from normct.models import build_model
from normct.models.files import ARCHITECTURES
from normct.train.data import generator
from normct.train.figures import PARTS
from normct.train.objectives import OBJECTIVES

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["train"]
SCHEMA = yaml.safe_load((REPOSITORY / "workflow/schemas/train.schema.yaml").read_text())
DOCUMENT = (REPOSITORY / "docs" / "training.md").read_text()
UNDRAWN = ("active_channels", "accuracy_")
"""Parts of a history that are no loss: the second has axes of its own."""


def test_no_place_names_a_method_too_many():
    shared = {"width": 2, "latent": 4, "in_channels": 1}
    sections = {method.section for method in METHODS.values()}
    made = {
        objective(METHOD_SETTINGS[m]).network(shared)["architecture"] for m, objective in OBJECTIVES.items()
    }
    assert set(OBJECTIVES) == set(METHOD_SETTINGS) == set(METHODS)
    assert set(SCHEMA["properties"]["methods"]["items"]["enum"]) == set(METHODS)
    assert {key for key, value in CONFIG.items() if isinstance(value, dict)} == sections | {"network"}
    assert made == set(ARCHITECTURES)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_section_that_its_tests_and_its_schema_share(method):
    section = METHODS[method].section
    schema = SCHEMA["properties"][section]
    assert section in SCHEMA["required"]
    assert schema["additionalProperties"] is False
    assert set(CONFIG[section]) == set(schema["properties"]) == set(schema["required"])
    assert set(CONFIG[section]) == {"epochs"} | set(METHOD_SETTINGS[method])
    assert all(value["description"] for value in schema["properties"].values())
    assert f"`{method}`" in DOCUMENT


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_of_a_method_is_drawn(method):
    objective = OBJECTIVES[method](METHOD_SETTINGS[method])
    torch.manual_seed(0)
    model = build_model(objective.network({"width": 2, "latent": 4, "in_channels": 1})).train()
    masks = torch.zeros(4, 128, 128, dtype=torch.bool)
    masks[:, 20:110, 30:100] = True
    images = torch.rand(4, 1, 128, 128) * masks[:, None]
    parts = objective(model, images, masks, generator("cpu", 0), first_epoch=True).parts
    assert {name for name in parts if not name.startswith(UNDRAWN)} <= set(PARTS)
