"""PET activity as standardised uptake values by body weight (SUVbw)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pydicom

from stunet.errors import FileError
from stunet.imaging.formats.dicom.slices import Slice, real, text

_TAGS = [
    *("Units", "DecayCorrection", "PatientWeight", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    "RadiopharmaceuticalInformationSequence",
]


def suv_factor(slices: Sequence[Slice]) -> float:
    """By what the activities of a PET series are multiplied to give SUV by body weight, in g/ml.

    SUV is the activity in Bq/ml times the weight in g, over the injected dose in Bq that is left at the time to which
    the scanner corrected the decay.

    Args:
        slices: all slices of the series.

    Raises:
        UserError: another modality, other units than Bq/ml, or tags that are missing or contradict each other; names
            them. 1.0 if the values are SUV by body weight already.
    """
    first = slices[0]
    if first.facts.modality != "PT":
        raise FileError(f"{first.source}: is {first.facts.modality}, and SUV is for PET; leave --suv out.")
    header = _header(first)
    units = text(header, "Units")
    if units == "GML":
        return 1.0
    if units != "BQML":
        raise FileError(f"{first.source}: SUV needs activities in BQML, and the units are {units or 'not stated'}.")
    items = header.get("RadiopharmaceuticalInformationSequence") or [pydicom.Dataset()]
    weight = _positive(header, "PatientWeight", first)
    dose = _positive(items[0], "RadionuclideTotalDose", first)
    if text(header, "DecayCorrection") == "ADMIN":
        return weight * 1000 / dose
    if text(header, "DecayCorrection") != "START":
        raise FileError(f"{first.source}: SUV needs DecayCorrection START or ADMIN; leave --suv out.")
    half_life = _positive(items[0], "RadionuclideHalfLife", first)
    waited = (_start_of_scan(header, slices) - _injection(header, items[0], first)).total_seconds()
    if not 0 <= waited < 10 * half_life:
        raise FileError(f"{first.source}: {waited:.0f} s from injection to scan cannot be true; leave --suv out.")
    return float(weight * 1000 / (dose * 2 ** (-waited / half_life)))


def _header(one: Slice) -> pydicom.Dataset:
    with one.source.open() as file:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)


def _positive(header: pydicom.Dataset, name: str, one: Slice) -> float:
    value = real(header, name, 0)
    if value <= 0:
        raise FileError(f"{one.source}: SUV needs {name}, which is missing; leave --suv out.")
    return value


def _start_of_scan(header: pydicom.Dataset, slices: Sequence[Slice]) -> datetime:
    """The time to which the decay is corrected: that of the series, if no slice was acquired before it."""
    start = _time(text(header, "SeriesDate") + text(header, "SeriesTime"), slices[0])
    acquired = min(_time(one.phase.acquired.replace(" ", ""), one) for one in slices)
    if start > acquired:
        raise FileError(
            f"{slices[0].source}: the series was made after it was acquired, so the time of the decay correction is "
            "not known; leave --suv out."
        )
    return start


def _injection(header: pydicom.Dataset, dose: pydicom.Dataset, one: Slice) -> datetime:
    stated = text(dose, "RadiopharmaceuticalStartDateTime")
    if stated:
        return _time(stated, one)
    day = text(header, "SeriesDate")
    injected = _time(day + text(dose, "RadiopharmaceuticalStartTime"), one)
    scanned = _time(day + text(header, "SeriesTime"), one)
    return injected if injected <= scanned else injected - timedelta(days=1)


def _time(written: str, one: Slice) -> datetime:
    """A date and time as DICOM writes them; fractions of a second and time zones do not count."""
    digits = written.partition(".")[0]
    try:
        if len(digits) < len("YYYYMMDDHH"):
            raise ValueError("no date, or no time")
        return datetime.strptime(digits[:14].ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError as error:
        raise FileError(
            f"{one.source}: SUV needs dates and times of series, slices and injection, and one is missing."
        ) from error
