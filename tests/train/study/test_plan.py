"""Plans that cannot be run are refused with their place."""

import pytest
import yaml

from train.study.plan import CHOSEN, read_plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sections": []}, "must hold a list `sections`"),
        ({"attempts": [], "sections": [{"title": "x"}]}, "must not hold attempts"),
        ({"sections": [{"cases": []}]}, "Section 1 of .* must have a `title`"),
        ([{"depth": 3}], "each case must have a `name`"),
        (["x"], "must name an earlier case or describe one, got 'x'"),
        ([{"name": "x", "depth": 3}], "Case 'x' must not hold depth"),
        ([{"name": "x"}, {"name": "x"}], "a name of its own, got 'x' again"),
        ([{"name": CHOSEN}], "a name of its own"),
        ([{"name": "x", "baseline": "forest"}], "one of logistic regression"),
        ([{"name": "x", "inputs": "sound"}], "must be all, image or text, got 'sound'"),
        ([{"name": "x", "compared_with": "y"}], "must name its cases, got y"),
        ({"sections": [{"title": "A b"}, {"title": "a, B"}]}, "Section 2 of .* a title of its own.* got 'a, B'"),
        ({"sections": [{"title": "Slices"}]}, "a title of its own"),
        (
            [{"name": "x", "settings": {"sam_rho": "much"}}],
            "of 'x': argument --sam_rho: invalid float",
        ),
        ([{"name": "x", "settings": {"sam_rho": [0.1, 0.2]}}], "one value for each name, got 0.2 besides"),
        ([{"name": "x", "without": {"source": "a"}}], "`without` of 'x' must be a list"),
        ([{"name": "x", "without": [{"colour": "a"}]}], "`without` of 'x' must not hold colour"),
        ([{"name": "x", "without": [{"source": "a", "share": 2}]}], "above 0 and at most 1, got 2"),
        ([{"name": "x", "settings": {"rho": 3}}], "`settings` of 'x' must not hold rho"),
    ],
)
def test_a_bad_plan_is_refused_with_its_place(tmp_path, content, message):
    if isinstance(content, list):
        content = {"sections": [{"title": "Cases", "cases": content}]}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_plan(tmp_path / "plan.yaml")


def test_a_plan_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "plan.yaml").write_text("sections: [x")
    with pytest.raises(ValueError, match=r"plan\.yaml is no YAML: while parsing"):
        read_plan(tmp_path / "plan.yaml")


def test_settings_have_the_types_of_the_command_line(tmp_path):
    settings = (
        "{sam_rho: 5e-2, image_layers: [1, 2], head_depth: 1, stratified: false, lr_scheduler_kwargs: {min_lr: 1}}"
    )
    (tmp_path / "plan.yaml").write_text(f"sections: [{{title: A, cases: [{{name: x, settings: {settings}}}]}}]")
    assert read_plan(tmp_path / "plan.yaml").cases["x"].settings == {
        "sam_rho": 0.05,
        "image_layers": [1, 2],
        "head_depth": 1,
        "stratified": False,
        "lr_scheduler_kwargs": {"min_lr": 1},
    }


def test_a_case_starts_from_the_recipe_and_may_be_shown_again(tmp_path):
    cases = [{"name": "x", "settings": {"sam_rho": 0.0}}, {"name": "y", "compared_with": {"x": "SAM"}}]
    sections = [{"title": "A", "cases": cases, "seeds": 1}, {"title": "B", "cases": ["y"]}]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"recipe": {"sam_rho": 0.1}, "sections": sections}))
    plan = read_plan(tmp_path / "plan.yaml")
    assert {name: case.settings for name, case in plan.cases.items()} == {"x": {"sam_rho": 0.0}, "y": {"sam_rho": 0.1}}
    assert plan.pairs == [("y", "x", "SAM")]
    assert plan.sections[1].cases == ("y",)
    assert plan.cases["y"].seeds == 1
