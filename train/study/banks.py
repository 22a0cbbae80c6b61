"""The banks of a study: loaded, checked against its plan, and what of the plan they make possible."""

from dataclasses import replace

from modeling.verdicts import CLASSES, REAL

from ..features.bank import STANDARD_VIEW, FeatureBank
from ..measure.duplicates import check_sources_apart
from ..measure.sources import join_sources
from .plan import Plan


def load_bank(folder: str, merge_sources: list[str], plan: Plan) -> FeatureBank:
    """A bank without the standard deliveries that no figure is of."""
    bank = FeatureBank.load(folder)
    join_sources(bank.rows, merge_sources)
    kept = (bank.rows["view"] != STANDARD_VIEW) | bank.rows["delivery"].isin(plan.deliveries)
    return bank.select(kept.to_numpy())


def check_bank(bank: FeatureBank, plan: Plan) -> None:
    """Whether it has what the plan needs.

    Raises:
        ValueError: a delivery or a source is missing, or the bank has near-duplicates in two sources.
    """
    clean = bank.rows[bank.rows["view"] == 0]
    of_bank = set(zip(clean["source"], clean["label"], strict=True))
    for delivery in plan.deliveries:
        delivered = bank.rows[bank.rows["delivery"] == delivery]
        if bare := of_bank - set(zip(delivered["source"], delivered["label"], strict=True)):
            raise ValueError(
                f"{len(bare)} of the bank's sources have no picture under {delivery}: make the bank with "
                f"--deliveries {' '.join(plan.deliveries)}, or with --probed."
            )
    for kind, sources in plan.kinds.items():
        if unknown := sorted(set(sources) - set(clean[clean["label"] == CLASSES.index(REAL)]["source"])):
            raise ValueError(f"`kinds` of the plan: {kind} must hold real sources of the bank, got {unknown}.")
    check_sources_apart(clean)


def same_views(first: FeatureBank, name: str, bank: FeatureBank) -> FeatureBank:
    """The same pictures as another backbone sees them.

    Raises:
        ValueError: its views are not those of the first bank.
    """
    compared = ["record_id", "view", "delivery", "label", "source"]
    if not first.rows[compared].equals(bank.rows[compared]):
        raise ValueError(
            f"{name} must hold the same views of the same pictures as the first bank ({len(first)} rows), got "
            f"{len(bank)} others: make it from the same data with the same --views, --deliveries and --seed."
        )
    return bank


def possible(plan: Plan, bank: FeatureBank) -> Plan:
    """The plan without the cases of sections that need text, where the bank has none.

    Raises:
        ValueError: another section has a case with text inputs.
    """
    if bank.text_embeds is not None and bool((bank.text_embeds != 0).any()):
        return plan
    sections = [
        replace(section, cases=(), landscape=(), left_out="The bank has no text.") if section.needs_text else section
        for section in plan.sections
    ]
    kept = dict.fromkeys(name for section in sections for name in section.cases)  # in the order of the plan
    cases = {}
    for name in kept:
        case = plan.cases[name]
        if case.inputs != "all":
            raise ValueError(f"`inputs` of {name!r} must be all, got {case.inputs}: the bank has no text.")
        compared = {other: shows for other, shows in case.compared_with.items() if other in kept}
        cases[name] = replace(case, compared_with=compared)
    return replace(plan, cases={name: cases[name] for name in plan.cases if name in kept}, sections=sections)


__all__ = ["check_bank", "load_bank", "possible", "same_views"]
