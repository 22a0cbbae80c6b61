"""evaluation.json: every field and its type.

The file is checked, read and written by `train.report.evaluation_file`. A part that is `None` was not measured, or
has no meaning: the type says which parts may be.
"""

from typing import Annotated, Any, TypedDict, TypeVar

from modeling.verdicts import CLASSES, VERDICTS

from ..features.made_by import MadeBy

# Raised whenever a field is added, or changes its name or meaning: a file of another version is refused.
VERSION = 2

T = TypeVar("T")
# A value for each, and one of them.
ByClass = Annotated[dict[str, T], CLASSES]
ByVerdict = Annotated[dict[str, T], VERDICTS]
ClassName = Annotated[str, CLASSES]
# [low, high], 95 %.
Interval = list[float]


class Figure(TypedDict):
    """A figure, and its interval by a bootstrap over sources; `None` where a class has one source only.

    It is `None`, too, where a generator or style of fewer than 10 pictures is set against the other class.
    """

    value: float
    interval: Interval | None


class Share(Figure):
    """A share of pictures, also by the rule of `source_weights`."""

    source_weighted: float


# `None` for a class without pictures.
Verdicts = ByClass[ByVerdict[Share] | None]


class ReliabilityBin(TypedDict):
    """Pictures whose probability lies in one tenth of [0, 1]; `weight` is their share of all weight."""

    pictures: int
    weight: float
    mean_probability: float
    share_generated: float


class Judged(TypedDict):
    """Figures of probabilities and verdicts; each class has half of the weight."""

    brier_score: Figure | None
    share_answered: Figure | None
    accuracy_of_answered: Figure | None
    balanced_accuracy: Figure | None
    expected_calibration_error: Figure | None
    reliability: list[ReliabilityBin]


class SourceWeighted(Judged):
    """Figures by the rule of `source_weights`: a source of a class weighs min(its pictures of the class, 5)."""

    auc: Figure | None


_OfClass = TypedDict("_OfClass", {"class": ClassName})  # "class" is a keyword of the language


class Group(_OfClass):
    """Pictures of one class that share a source, a generator or a style.

    `wrong_interval` belongs to the verdict of the other class. `undefined` says why figures are `None`.
    """

    pictures: int
    called_real: float
    uncertain: float
    called_generated: float
    wrong_interval: Interval
    balanced_expected_calibration_error: float | None
    answered: float
    answered_interval: Interval
    wrong_of_answered: float | None
    wrong_of_answered_interval: Interval | None
    undefined: str | None


class SourceGroup(Group):
    """A source; rankings are against all pictures of the other class, each class with half of the weight."""

    source: str
    auc: float | None
    balanced_average_precision: float | None
    tpr_at_1_percent_fpr: float | None
    tpr_at_5_percent_fpr: float | None
    equal_error_rate: float | None
    balanced_accuracy: float | None
    brier_score: float
    mean_probability: float


class LargeGroup(Group):
    """As `SourceGroup`, of pictures of several sources: figures have intervals."""

    sources: int
    auc: Figure | None
    balanced_average_precision: Figure | None
    tpr_at_1_percent_fpr: Figure | None
    tpr_at_5_percent_fpr: Figure | None
    equal_error_rate: Figure | None
    balanced_accuracy: Figure | None
    balanced_reliability: list[ReliabilityBin] | None
    brier_score: Figure


class GeneratorGroup(LargeGroup):
    """Pictures of one generator."""

    generator: str
    called_generated_interval: Interval


class StyleGroup(LargeGroup):
    """Pictures of one class and style."""

    style: str


class Groups(TypedDict):
    """Every group, the largest first."""

    by_source: list[SourceGroup]
    by_generator: list[GeneratorGroup]
    by_style: list[StyleGroup]


class ContentGroup(_OfClass):
    """Pictures of one class that share a family of generators, a kind of content or a shape.

    The AUC is against all pictures of the other class. Of `kinds_predicted` pictures the kind was predicted.
    """

    name: str
    pictures: int
    sources: int
    kinds_predicted: int
    called_real: float
    uncertain: float
    called_generated: float
    called_real_interval: Interval
    called_generated_interval: Interval
    auc: float | None


class Contents(TypedDict):
    """Groups by what the data tells of its pictures; empty where it does not."""

    by_family: list[ContentGroup]
    by_kind: list[ContentGroup]
    by_shape: list[ContentGroup]
    newer_telephones: ContentGroup | None


class WorstSource(TypedDict):
    """The real source that is flagged most."""

    source: str
    pictures: int
    called_generated: float
    interval: Interval


class WorstGenerator(TypedDict):
    """The generator that is missed most; the interval is that of `called_generated`."""

    generator: str
    pictures: int
    called_generated: float
    called_real: float
    interval: Interval


class WorstStyle(_OfClass):
    """The style with the largest share called the other class."""

    style: str
    pictures: int
    wrong: float
    interval: Interval


class WorstCalibrated(_OfClass):
    """The group whose probabilities mislead most."""

    kind: str
    name: str
    pictures: int
    balanced_expected_calibration_error: float


class Worst(TypedDict):
    """The worst groups; `None` where none has enough pictures."""

    real_source: WorstSource | None
    generator: WorstGenerator | None
    style: WorstStyle | None
    calibration: WorstCalibrated | None


class RandomDeliveries(TypedDict):
    """Random deliveries of every picture."""

    views: ByClass[int]
    auc: Figure | None
    verdicts: Verdicts


class Delivery(TypedDict):
    """One standard delivery of the same pictures; "clean" is none."""

    delivery: str
    auc: Figure | None
    auc_minus_clean: Figure | None
    false_positive_rate: Figure | None
    true_positive_rate: Figure | None
    verdict_changed: Figure | None
    real_turned_generated: Figure | None
    mean_probability_change: ByClass[float | None]
    mean_absolute_probability_change: float


class Robustness(TypedDict):
    """Pictures that were embedded under every standard delivery."""

    pictures: ByClass[int]
    sources: ByClass[int]
    deliveries: list[Delivery]
    pictures_by_group: dict[str, int]
    called_generated: dict[str, dict[str, float]]
    worst_delivery: str | None


class Rule(TypedDict):
    """How well facts of the files tell the classes apart, held out."""

    facts: str
    auc: Figure | None


class Matched(TypedDict):
    """The detector where both classes have the same facts of the files."""

    on: str
    pictures: ByClass[int]
    auc: Figure | None
    auc_before: Figure | None
    rule_auc: Figure | None


class InTraining(TypedDict):
    """Pictures that are nearly the same as one of the training; `examples` as in `Duplicates`."""

    pictures: int
    examples: list[tuple[str, str, int]] | None


class Duplicates(TypedDict):
    """Pictures that are nearly the same.

    `examples` are (record, record, bits apart). The file has none: identifiers may be people's file names.
    """

    limit: int
    bits: int
    pairs: int
    pairs_of_two_sources: int
    pairs_of_two_classes: int
    examples: list[tuple[str, str, int]] | None
    in_training: InTraining | None


class BiasAudit(TypedDict):
    """Whether the classes can be told apart without the pictures.

    `shape_and_size` is the AUC of a rule on width, height and squareness, held out as the others: the zero-pixel null.
    """

    protocol: str
    counts: dict[str, ByClass[dict[str, int]]]
    medians: dict[str, ByClass[float | None]]
    rules: list[Rule]
    shape_and_size: Figure | None
    gives_away: list[str]
    warning: str | None
    matched: Matched
    duplicates: Duplicates


class AffineCalibration(TypedDict):
    """P(generated) = sigmoid(scale * score + bias)."""

    scale: float
    bias: float


class InputFigures(TypedDict):
    """One input, `on` these pictures, by the calibration and the thresholds that belong to it.

    `verdicts_of_other_folds` are by those that the other folds' scores gave: only `fit` has folds.
    """

    on: str
    pictures: ByClass[int]
    auc: Figure | None
    calibration: AffineCalibration
    thresholds: ByClass[float]
    verdicts: Verdicts
    verdicts_of_other_folds: Verdicts | None


class TextFigures(TypedDict):
    """What a text does; AUC by what is seen. `warning`: that it gives the label away, and by what."""

    pictures_with_text: ByClass[float | None]
    auc: dict[str, Figure | None]
    warning: str | None
    with_text: InputFigures
    without_text: InputFigures


class Targets(TypedDict):
    """Shares of all held-out real and generated pictures that the thresholds aim at."""

    fpr: float
    fnr: float


class ThresholdRule(TypedDict):
    """A rule that the threshold of "generated" keeps on the held-out real pictures that it was chosen on.

    `bounds` counts its bounds: 1, for kinds one a kind, 0 where it has nothing to bind. Of the tightest of them: at
    most `allowed` `of` pictures (for "sources": sources with more than one picture) may reach the threshold, `reached`
    do, and so the threshold lies `above` this probability. `decided`: no rule asks for a higher one.
    """

    rule: Annotated[str, ("pictures", "sources", "kinds")]
    bounds: int
    kind: str | None
    of: int | None
    allowed: int | None
    reached: int | None
    above: float | None
    decided: bool


class Answer(TypedDict):
    """A verdict, or a third of the band of "uncertain" (1 = the lowest), and the pictures that get it.

    `photographs` is the share of real ones among them, if half of all pictures are real.
    """

    verdict: Annotated[str, VERDICTS]
    third: int | None
    pictures: ByClass[int]
    photographs: Figure | None


class Comparison(TypedDict):
    """Another detector on the same pictures; differences are the head minus it, paired."""

    auc: float
    auc_difference: Figure
    auc_source_weighted: float
    auc_source_weighted_difference: Figure


class Baseline(Comparison):
    """A logistic regression on the same embeddings."""

    inverse_penalty: float


class FamilyFound(TypedDict):
    """A family of generators that was left out whole, and the share of its pictures that is found."""

    family: str
    pictures: int
    sources: int
    found: float
    interval: Interval


class Families(TypedDict):
    """Families of generators at one share of false alarms, the least found first; `mean` is over families."""

    false_alarms: float
    mean: float
    by_family: list[FamilyFound]


class FitFacts(TypedDict):
    """What only `fit` knows. `verdicts` and `answers` are by thresholds that the other folds' scores gave.

    `calibration` is `None` where held-out scores do not rise from real to generated: every verdict is then uncertain.
    `families` is there where families were held out whole.
    """

    protocol: str
    calibration: AffineCalibration | None
    targets: Targets
    rules: list[ThresholdRule] | None
    verdicts: Verdicts
    answers: list[Answer] | None
    baselines: dict[str, Baseline]
    families: Families | None
    arguments: dict[str, Any]
    processes: int


class CheckpointFacts(TypedDict):
    """What only `evaluate` knows. `in_sample`: fitted on these very pictures; `None` where that is not known."""

    name: str
    weights_sha256: str
    in_sample: bool | None


class Newest(TypedDict):
    """The newest generated picture, and the family of generators whose first picture is the last; by dates known."""

    date: str
    family: str | None
    family_since: str | None


class NestedFigures(TypedDict):
    """Rankings of held-out pictures. Those at a fixed FPR choose their threshold in-sample."""

    auc: Figure | None
    auc_source_weighted: Figure | None
    tpr_at_1_percent_fpr: Figure | None
    tpr_at_2_percent_fpr: Figure | None
    tpr_at_1_percent_fpr_source_weighted: Figure | None
    tpr_at_2_percent_fpr_source_weighted: Figure | None


class NestedGroup(_OfClass):
    """Pictures of one class and kind, or of one family; the interval is that of `called_generated`."""

    name: str
    pictures: int
    sources: int
    called_real: float
    called_generated: float
    interval: Interval


class NestedCase(TypedDict):
    """One way to fit, with calibration and thresholds of each group by fits that never saw it.

    The verdicts of `uncalibrated_groups` are all uncertain: inner scores there did not rise from real to generated.
    """

    figures: NestedFigures
    verdicts: Verdicts
    expected_calibration_error: float
    by_kind: list[NestedGroup]
    by_family: list[NestedGroup]
    uncalibrated_groups: list[int]


class Nested(TypedDict):
    """A nested study: the way to fit that inner fits chose for each group, and a baseline by the same protocol.

    `differences` are the first minus the second, paired.
    """

    protocol: str
    chosen: list[str]
    case: NestedCase
    baseline: str | None
    baseline_case: NestedCase | None
    differences: NestedFigures | None


class ScoreFigures(Groups, Contents):
    """What scores and labels alone give. Rankings choose their thresholds in-sample.

    In `plain` every picture of a class weighs the same.
    """

    pictures: ByClass[int]
    sources: ByClass[int]
    auc: Figure | None
    average_precision: Figure | None
    balanced_average_precision: Figure | None
    tpr_at_1_percent_fpr: Figure | None
    tpr_at_5_percent_fpr: Figure | None
    equal_error_rate: Figure | None
    plain: Judged
    source_weighted: SourceWeighted
    thresholds: ByClass[float]
    verdicts: Verdicts
    worst: Worst


class ViewFigures(ScoreFigures):
    """What the rows of a feature bank give beside."""

    random_deliveries: RandomDeliveries | None
    robustness: Robustness | None
    bias_audit: BiasAudit
    newest_generated: Newest | None


class Evaluation(ViewFigures):
    """evaluation.json. Either `fit` or `checkpoint` is there."""

    version: int
    text: TextFigures | None
    fit: FitFacts | None
    nested: Nested | None
    checkpoint: CheckpointFacts | None
    made_by: MadeBy


__all__ = [
    "VERSION",
    "Answer",
    "Baseline",
    "BiasAudit",
    "ByClass",
    "ByVerdict",
    "CheckpointFacts",
    "Comparison",
    "ContentGroup",
    "Contents",
    "Delivery",
    "Duplicates",
    "Evaluation",
    "Families",
    "FamilyFound",
    "Figure",
    "FitFacts",
    "GeneratorGroup",
    "Groups",
    "InTraining",
    "InputFigures",
    "Interval",
    "Judged",
    "Matched",
    "Nested",
    "NestedCase",
    "NestedFigures",
    "NestedGroup",
    "Newest",
    "RandomDeliveries",
    "ReliabilityBin",
    "Robustness",
    "Rule",
    "ScoreFigures",
    "Share",
    "SourceGroup",
    "SourceWeighted",
    "StyleGroup",
    "TextFigures",
    "ThresholdRule",
    "Verdicts",
    "ViewFigures",
    "Worst",
]
