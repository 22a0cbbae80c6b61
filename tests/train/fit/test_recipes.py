"""Every recipe that the project holds is read by `fit`, and a setting that is not there any more is refused."""

import pytest
import yaml

from modeling.embedded import DEFAULT_SOURCE, ROOT
from train.__main__ import command_of
from train.parsing import parse

RECIPES = [*sorted((ROOT / "train" / "recipes").glob("*.yaml")), DEFAULT_SOURCE / "fit.yaml"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_as_it_is_written(recipe, tmp_path):
    flags = [str(recipe), "--bank", "bank", "--output_dir", str(tmp_path)]
    fit_arguments, training = parse(command_of(["fit"]), flags)
    for name, value in yaml.safe_load(recipe.read_text()).items():
        holder = fit_arguments if hasattr(fit_arguments, name) else training
        found = getattr(holder, name)
        assert getattr(found, "value", found) == value, name  # some of Trainer's settings are enumerations


def test_a_setting_of_an_earlier_version_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "fit.yaml").write_text("head_members: 5\n")
    with pytest.raises(SystemExit):
        parse(command_of(["fit"]), [f"{tmp_path}/fit.yaml", "--bank", "bank", "--output_dir", str(tmp_path)])
    assert "there is no option --head_members" in capsys.readouterr().err
