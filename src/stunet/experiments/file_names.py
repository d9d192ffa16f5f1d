"""What the tables and figures of a results file are called."""

from stunet.experiments.results import Results


def file_name_of(results: Results) -> str:
    """The experiment's name, and the profile if that is not the full one: "table5", "table5_mini"; without suffix."""
    return results.experiment if results.profile == "full" else f"{results.experiment}_{results.profile}"
