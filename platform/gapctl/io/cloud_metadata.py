"""The metadata service of the cloud that a machine runs on: which kind it is, and when it is taken away.

AWS: instance metadata with a session token (IMDSv2). Google: `computeMetadata/v1`. Both answer at the same address,
which `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `GCE_METADATA_HOST` change, as they do for the clouds' own libraries.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal

METADATA_ADDRESS: Final = "http://169.254.169.254"
ANSWER_SECONDS: Final = 1.0
AMAZON_HEADERS: Final = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
GOOGLE_HEADERS: Final = {"Metadata-Flavor": "Google"}
GOOGLE_NOTICE_SECONDS: Final = 30.0
"""Seconds from Google's notice, which names no time, to the end of the machine."""
NO_SUCH_THING: Final = 404
Cloud = Literal["aws", "google"]


def fetch_metadata(address: str, headers: Mapping[str, str], method: str = "GET") -> str:
    """Return the service's answer. Raises OSError where there is none, as on a laptop or in most containers."""
    # No proxy: the machine itself answers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, headers=dict(headers), method=method)
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read(1000).decode("ascii")).strip()
    except http.client.HTTPException as error:  # no HTTP, or no address
        raise OSError(str(error)) from error


def fetch_amazon_token(address: str) -> dict[str, str]:
    """Return the header that each question to AWS's service needs. Raises OSError where there is no such service."""
    return {"X-aws-ec2-metadata-token": fetch_metadata(f"{address}/latest/api/token", AMAZON_HEADERS, method="PUT")}


def find_metadata_address(cloud: Cloud) -> str:
    """Return the address of a cloud's service, "" where the environment turns it off."""
    if cloud == "google":
        host = os.environ.get("GCE_METADATA_HOST")
        return f"http://{host}" if host else METADATA_ADDRESS
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return ""
    return os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", METADATA_ADDRESS).rstrip("/")


def detect_cloud() -> Cloud | None:
    """Return whose metadata service answers on this machine, or None. Takes two seconds at most."""
    try:
        if address := find_metadata_address("aws"):
            fetch_amazon_token(address)
            return "aws"
    except (OSError, ValueError):
        pass
    try:
        fetch_metadata(f"{find_metadata_address('google')}/computeMetadata/v1/instance/id", GOOGLE_HEADERS)
    except (OSError, ValueError):
        return None
    return "google"


def read_spot_notice(cloud: Cloud, now: float) -> float | None:
    """Return when this machine is taken away, in seconds since 1970, or None while it is not announced.

    AWS announces it two minutes before, Google thirty seconds. Raises OSError or ValueError if no answer can be read.
    """
    if cloud == "google":
        address = f"{find_metadata_address(cloud)}/computeMetadata/v1/instance/preempted"
        return now + GOOGLE_NOTICE_SECONDS if fetch_metadata(address, GOOGLE_HEADERS) == "TRUE" else None
    address = find_metadata_address(cloud)
    try:
        notice = fetch_metadata(f"{address}/latest/meta-data/spot/instance-action", fetch_amazon_token(address))
    except urllib.error.HTTPError as error:
        if error.code == NO_SUCH_THING:
            return None
        raise
    return datetime.fromisoformat(str(json.loads(notice)["time"])).timestamp()
