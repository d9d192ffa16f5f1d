"""Watch Orthanc, and send what arrives to a server of stunet: `python segment_arrivals.py --help`."""

import argparse
import logging
import os
import time
from pathlib import Path

from orthanc_rest import Orthanc, OrthancError
from poller import MODALITIES, Order, Poller, logger

from stunet.errors import UserError
from stunet.serve.client import Client

FORMATS = ("dicom-seg", "dicom-seg-binary", "rtstruct")


def main() -> None:
    """Look, work, wait, until it is ended."""
    given = _arguments()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    given.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    orthanc = Orthanc(given.orthanc, os.environ.get("ORTHANC_USER", ""), os.environ.get("ORTHANC_PASSWORD", ""))
    order = Order(given.model, tuple(given.classes), given.format, given.modality)
    poller = Poller(orthanc, lambda: Client(given.server, os.environ.get("STUNET_TOKEN")), order, given.folder)
    logger.info("Waiting for studies with a series of modality %s.", given.modality)
    while True:
        try:
            poller.begin(given.all_studies)
            poller.look()
            poller.work()
        except (OrthancError, UserError) as error:
            logger.warning("%s", error)
        if given.once and not poller.progress.waiting:
            return
        time.sleep(given.seconds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Segment each study that arrives in Orthanc, and store the result there. Not a medical device.",
        epilog="Read from the environment: ORTHANC_USER, ORTHANC_PASSWORD, STUNET_TOKEN.",
    )
    parser.add_argument("--orthanc", required=True, metavar="URL", help="such as http://127.0.0.1:8042")
    parser.add_argument(
        "--server", required=True, metavar="URL", help="of `stunet serve`, such as http://127.0.0.1:8000"
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="name of a model of the server")
    parser.add_argument("--classes", nargs="*", default=[], metavar="NAME", help="the only structures; default: all")
    parser.add_argument("--format", choices=FORMATS, default="dicom-seg", help="of the result; default: dicom-seg")
    parser.add_argument("--modality", choices=MODALITIES, default="CT", help="of series to segment; default: CT")
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="PATH", help="for progress and results on the way"
    )
    parser.add_argument("--all-studies", action="store_true", help="begin with those that are there; default: new ones")
    parser.add_argument("--seconds", type=float, default=10.0, help="between two looks; default: 10")
    parser.add_argument("--once", action="store_true", help="end when nothing is left to do")
    return parser.parse_args()


if __name__ == "__main__":
    main()
