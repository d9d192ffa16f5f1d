import pytest

from stunet.errors import UserError
from stunet.imaging.formats.dicomweb.address import is_address, parse_address


@pytest.mark.parametrize(
    ("text", "service", "study", "series"),
    [
        ("dicomweb://pacs.clinic.example", "https://pacs.clinic.example", "", ""),
        ("dicomweb://pacs:8443/a/dicom-web/", "https://pacs:8443/a/dicom-web", "", ""),
        ("dicomweb://localhost:8042/dicom-web/studies/1.2", "http://localhost:8042/dicom-web", "1.2", ""),
        ("dicomweb://127.0.0.1/studies/1.2/series/1.2.3", "http://127.0.0.1", "1.2", "1.2.3"),
        ("dicomweb+https://localhost/studies/1.2/series/", "https://localhost", "1.2", ""),
        ("dicomweb+http://pacs/studies", "http://pacs", "", ""),
        ("DicomWeb://PACS/Rs", "https://pacs/Rs", "", ""),
        ("dicomweb://pacs/studies/1.2/odd", "https://pacs/studies/1.2/odd", "", ""),
        ("dicomweb://127.0.0.1.example", "https://127.0.0.1.example", "", ""),
    ],
)
def test_what_an_address_says(text, service, study, series):
    address = parse_address(text)
    assert (address.service, address.study, address.series) == (service, study, series)
    assert parse_address(str(address)) == address


NO_ADDRESSES = [
    "dicomweb://",
    "dicomweb:///studies/1.2",
    "dicomweb://pacs:port/x",
    "dicomweb://pacs/x?key=1",
    "dicomweb://pacs/x#top",
    "dicomweb://a b",
    "dicomweb://pacs/studies/..",
    "dicomweb://pacs/studies/1.2/series/x",
    f"dicomweb://pacs/studies/1.{'2' * 70}",
]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_none(text):
    with pytest.raises(UserError, match="An address is dicomweb://HOST"):
        parse_address(text)


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(UserError, match="STUNET_DICOMWEB_PASSWORD") as refused:
        parse_address("dicomweb://me:s3cret@pacs/studies/1.2")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("path", ["scan.nii.gz", "dicomweb/scan.nii.gz", "/data/dicomweb:/x", "http://pacs", ""])
def test_files_are_no_addresses(path):
    assert not is_address(path)
