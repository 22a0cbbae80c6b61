"""placeholder"""


def write_report(folder: object, evaluation: dict, pictures: object) -> None:
    """Nothing yet."""
