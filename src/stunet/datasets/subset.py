"""Nested, stratified subsets of the training cases, as additional folds in nnU-Net's splits file.

All cases are ordered so that every prefix contains each label about as often as the whole does. A subset is such a
prefix. So a larger subset contains the smaller ones, as in the paper (section 4.3.4), and all are validated on the same
cases.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stunet.datasets import WORKERS
from stunet.datasets.raw import SPLITS, Fold, read_splits
from stunet.errors import UserError, listed
from stunet.files import require_writable, write_json
from stunet.imaging.formats.registry import read_labels
from stunet.plans.raw_dataset import LABEL, read_raw_dataset

CANDIDATES = 10
"""Number of random candidates; the next case is the one that keeps the label counts closest to their share."""

VALIDATION_FRACTION = 0.2
"""Fraction of cases kept for validation if the dataset has no split of its own, as in nnU-Net's five folds."""

RECORD_NAME = "subsets.json"


@dataclass(frozen=True)
class Subsets:
    """The subsets that were written.

    Attributes:
        folds: number of the fold -> names of its training cases, from small to large.
        validation: names of the validation cases, the same for all.
        base: number of the fold from whose training cases the subsets are drawn.
    """

    folds: Mapping[int, tuple[str, ...]]
    validation: tuple[str, ...]
    base: int


def write_subsets(
    folder: Path,
    sizes: Sequence[int],
    seed: int = 0,
    base: int = 0,
    preprocessed: Path | None = None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Subsets:
    """Add a fold for each size to the splits file of a dataset.

    Without a splits file, fold 0 validates on a fifth of the cases and trains on all others.

    Args:
        folder: of the dataset, in nnU-Net's raw layout.
        sizes: numbers of training cases.
        seed: of the order; the same seed gives the same subsets.
        base: the fold from whose training cases subsets are drawn, and whose validation cases are kept.
        preprocessed: the dataset's preprocessed folder; if it has a splits file, the folds are added there, too.
        on_case: called with the number of label maps read and the total.

    Raises:
        UserError: a size is impossible, the fold does not exist, or the preprocessed splits file has other folds.
    """
    dataset = read_raw_dataset(folder)
    files = {case: found[LABEL] for case, found in dataset.training_files().items() if LABEL in found}
    folds = read_splits(folder / SPLITS)
    prepared = read_splits(preprocessed / SPLITS) if preprocessed else []
    _require_same_start(folds, prepared, preprocessed)
    folds = max(folds, prepared, key=len)
    require_writable(folder)
    holds = _labels_of_cases(files, {0, dataset.labels.ignored}, on_case)
    if not folds:
        folds = [_first_fold(holds, seed)]
    _require_possible(folds, sizes, base, holds)
    order = stratified_order({case: holds[case] for case in folds[base]["train"]}, seed)
    chosen = {len(folds) + number: tuple(sorted(order[:size])) for number, size in enumerate(sorted(set(sizes)))}
    folds += [{"train": list(cases), "val": folds[base]["val"]} for cases in chosen.values()]
    subsets = Subsets(chosen, tuple(folds[base]["val"]), base)
    _write(folder, preprocessed, folds, subsets, seed)
    return subsets


def stratified_order(holds: Mapping[str, frozenset[int]], seed: int) -> list[str]:
    """Order cases so that every prefix contains each label about as often as all cases do.

    The next case is chosen from `CANDIDATES` random remaining cases. It is the one that keeps the label counts closest
    to their share: the sum over labels of (found - expected)² / share is smallest.

    Args:
        holds: case -> its labels.
        seed: of the random candidates.

    Returns:
        All names. The same seed gives the same order.
    """
    random = np.random.default_rng(seed)
    names = sorted(holds)
    labels = sorted(set().union(*holds.values()))
    present_NL = np.array([[label in holds[name] for label in labels] for name in names], dtype=np.float64)
    share_L = present_NL.mean(axis=0)
    found_L = np.zeros(len(labels))
    left = list(range(len(names)))
    order = []
    for position in range(1, len(names) + 1):
        candidates = random.choice(left, size=min(CANDIDATES, len(left)), replace=False)
        off = ((found_L + present_NL[candidates] - position * share_L) ** 2 / share_L).sum(axis=1)
        taken = int(candidates[int(off.argmin())])
        found_L += present_NL[taken]
        left.remove(taken)
        order.append(names[taken])
    return order


def _labels_of_cases(
    files: Mapping[str, Path], uncounted: Set[int | None], on_case: Callable[[int, int], None]
) -> dict[str, frozenset[int]]:
    """Case -> the labels in its map, without the uncounted ones."""

    def labels_in(path: Path) -> frozenset[int]:
        """The labels in one map."""
        return frozenset(np.unique(read_labels(path).array).tolist()) - uncounted

    holds: dict[str, frozenset[int]] = {}
    with ThreadPoolExecutor(WORKERS, "stunet-subset") as pool:
        for case, labels in zip(files, pool.map(labels_in, files.values()), strict=True):
            holds[case] = labels
            on_case(len(holds), len(files))
    return holds


def _first_fold(holds: Mapping[str, frozenset[int]], seed: int) -> Fold:
    """A fold with a stratified fifth to validate on, and all others to train on."""
    order = stratified_order(holds, seed)
    kept_apart = max(1, round(VALIDATION_FRACTION * len(order)))
    return {"train": sorted(order[kept_apart:]), "val": sorted(order[:kept_apart])}


def _require_same_start(raw: Sequence[Fold], prepared: Sequence[Fold], folder: Path | None) -> None:
    """Require folds that both splits files have to be equal, as nnU-Net does."""
    for ours, theirs in zip(raw, prepared, strict=False):
        if any(set(ours[part]) != set(theirs[part]) for part in ("train", "val")):
            raise UserError(
                f"{folder}/{SPLITS} has other folds than the raw dataset. Remove the file that is not wanted; models "
                "that were trained belong to the folds of one of them."
            )


def _require_possible(
    folds: Sequence[Fold], sizes: Sequence[int], base: int, holds: Mapping[str, frozenset[int]]
) -> None:
    if not 0 <= base < len(folds):
        raise UserError(f"There is no fold {base} to draw from; the splits file has 0 to {len(folds) - 1}.")
    training = folds[base]["train"]
    missing = [case for case in training if case not in holds]
    if missing:
        raise UserError(f"Fold {base} trains on cases without a label map: {listed(missing)}.")
    wrong = [size for size in sizes if not 1 <= size <= len(training)]
    if wrong or not sizes:
        raise UserError(f"Subsets of 1 to {len(training)} cases can be drawn from fold {base}, not {wrong or 'none'}.")


def _write(folder: Path, preprocessed: Path | None, folds: list[Fold], subsets: Subsets, seed: int) -> None:
    write_json(folder / SPLITS, folds)
    record = {
        "seed": seed,
        "drawn_from_fold": subsets.base,
        "validation_cases": len(subsets.validation),
        "folds": {str(number): len(cases) for number, cases in subsets.folds.items()},
    }
    write_json(folder / RECORD_NAME, record)
    if preprocessed is not None and (preprocessed / SPLITS).is_file():
        write_json(preprocessed / SPLITS, folds)
