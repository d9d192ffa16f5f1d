"""Results for figures and tables: the paper's Table 3 as it is printed, and invented ones of the size of the others."""

from pathlib import Path

import nibabel
import numpy as np

from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.results import Measurement, Provenance, Results

GROUPS = ("organs", "vertebrae", "cardiac", "muscles", "ribs", "all")

TABLE3 = {
    "nnU-Net": (31.28, 0.54, 87.45, 86.97, 88.70, 85.05, 86.11, 86.76),
    "nnU-Net*": (60.18, 0.55, 87.48, 86.87, 88.43, 86.42, 85.98, 86.94),
    "nnFormer": (153.97, 2.04, 79.26, 73.87, 75.96, 74.97, 74.03, 75.37),
    "UNETR-S": (93.01, 0.16, 72.59, 71.94, 72.67, 66.20, 73.06, 71.27),
    "UNETR-B": (102.02, 0.59, 77.11, 74.21, 77.57, 73.29, 74.06, 75.05),
    "SwinUNETR-S": (15.71, 0.19, 76.29, 77.04, 76.05, 71.33, 74.21, 74.94),
    "SwinUNETR-B": (62.19, 0.76, 84.18, 83.27, 83.45, 81.07, 81.71, 82.64),
    "SwinUNETR-L": (248.1, 2.99, 85.39, 87.27, 85.25, 82.97, 83.63, 84.91),
    "STU-Net-S": (14.60, 0.13, 84.72, 83.05, 84.80, 82.92, 83.67, 83.74),
    "STU-Net-B": (58.26, 0.51, 87.67, 86.46, 88.64, 86.46, 86.82, 87.12),
    "STU-Net-L": (440.30, 3.81, 88.92, 88.71, 89.66, 87.61, 88.79, 88.71),
    "STU-Net-H": (1457.33, 12.60, 89.82, 90.43, 90.89, 88.83, 90.29, 90.06),
}

SIZES = ("STU-Net-S", "STU-Net-B", "STU-Net-L", "STU-Net-H")


def results_of(experiment: str, measurements: list[Measurement], profile: str = "full", **settings: object) -> Results:
    provenance = Provenance({"stunet": "0.1.0"}, {"processor": "x86_64"}, "2026-11-25T12:00:00+00:00", settings, 1.0)
    return Results(experiment, profile, provenance, tuple(measurements))


def table3(profile: str = "full") -> Results:
    """The paper's numbers as if they had been measured."""
    measurements = []
    for system, (parameters, flops, *dsc) in TABLE3.items():
        for metric, value in (("parameters (M)", parameters), ("mult-adds (T)", flops)):
            measurements.append(Measurement(system, metric, value, paper=value, paper_decimals=2, source="Table 3"))
        for target, value in zip(GROUPS, dsc, strict=True):
            share = round(value / 100, 4)
            measurements.append(
                Measurement(system, "DSC", share, target, paper=share, paper_decimals=4, source="Table 3")
            )
    return results_of("table3", measurements, profile)


def data_size(profile: str = "full") -> Results:
    """Invented but for the right ends, which are Table 3's."""
    drops = {0.05: 0.25, 0.1: 0.16, 0.2: 0.09, 0.5: 0.03, 1.0: 0.0}
    rng = np.random.default_rng(0)
    measurements = []
    for place, system in enumerate(SIZES):
        for fraction, drop in drops.items():
            value = TABLE3[system][-1] / 100 - drop * (1 - 0.12 * place)
            noise = rng.normal(0, 0.04, 57)
            cases = {f"case_{i}": float(value + more) for i, more in enumerate(noise - noise.mean())}
            measurements.append(Measurement(system, "DSC", value, "all", {"fraction": fraction}, cases=cases))
    return results_of("figure4", measurements, profile)


def experts(profile: str = "full") -> Results:
    """Universal models of Table 3; the experts are invented."""
    gain = (0.9, 1.1, 0.6, -0.8, -1.2, -0.3)
    measurements = []
    for place, system in enumerate(SIZES):
        for target, value, more in zip(GROUPS, TABLE3[system][2:], gain, strict=True):
            expert = value + more * (1 - 0.2 * place)
            for model, dsc in (("expert", expert), ("universal", value)):
                measurements.append(Measurement(system, "DSC", dsc / 100, target, {"model": model}))
    return results_of("figure5", measurements, profile)


def transfer(profile: str = "mini") -> Results:
    """Three seeds each, invented."""
    rng = np.random.default_rng(1)
    measurements = []
    for system, least in (("pre-trained", 0.78), ("scratch", 0.52)):
        for cases in (2, 4, 8, 16, 32):
            for seed in range(3):
                dsc = 0.89 - (0.89 - least) / (cases / 2) ** 0.7 + rng.normal(0, 0.05 / cases**0.5)
                measurements.append(Measurement(system, "DSC", float(dsc), "mean", {"cases": cases, "seed": seed}))
    return results_of("transfer", measurements, profile)


def write_pictures(folder: Path) -> tuple[Results, list[PanelCase]]:
    """Two cases of spheres in noise, two systems of which the second shifts them; the results name their files."""
    rng = np.random.default_rng(0)
    names = {1: "liver", 2: "spleen"}
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    cases, measurements = [], []
    for case, shape in (("case_1", (40, 32, 10)), ("case_2", (24, 24, 8))):
        place = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in shape), indexing="ij"))
        labels = np.where((place**2).sum(0) < 25, 1, 0).astype(np.uint8)
        labels[2:6, 2:6, 3:5] = 2
        arrays = {"image": rng.normal(100, 20, shape) + 50.0 * labels, "reference": labels}
        arrays |= {"right": labels, "shifted": np.roll(labels, 3, axis=0)}
        for name, array in arrays.items():
            path = folder / name / f"{case}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.astype(np.float32 if name == "image" else np.uint8), affine), path)
        files = {name: folder / name / f"{case}.nii.gz" for name in arrays}
        predictions = {name: files[name] for name in ("right", "shifted")}
        cases.append(PanelCase(case, f"{case}, CT", files["image"], files["reference"], predictions, names))
    for system, value in (("right", 1.0), ("shifted", 0.5)):
        measurements.append(Measurement(system, "DSC", value, "mean", cases={"case_1": value, "case_2": value - 0.125}))
    pictures = [case.to_setting(folder) for case in cases]
    return results_of("figure3", measurements, "mini", pictures=pictures), cases
