"""Passwords and keys in plain text."""

import re
from collections.abc import Iterator
from typing import Final

from gapctl.cluster.finding import Finding
from gapctl.spec.secrets import without_passwords
from gapctl.spec.yaml_source import YamlSource

KEYS: Final = {
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{30,}|hf_[0-9A-Za-z]{30,}|xox[bp]-[0-9A-Za-z-]{20,})"),
}
NAMED: Final = re.compile(
    r"(?i)[\w-]*(?:password|passwd|secret_access_key|secret_key|api_key|auth_token|access_token)[\"']?\s*[:=]\s*"
    r"[\"']?(?P<value>[^\s\"',}]+)"
)
REFERENCE: Final = re.compile(r"^[$<{(*]|^(?:EDIT|null|none|true|false)$", re.IGNORECASE)
"""A variable, a placeholder or a flag, and no secret."""


def plain_secrets(source: YamlSource) -> Iterator[Finding]:
    """Lines that hold a secret, which is not repeated; comments count too."""
    for line, text in enumerate(source.text.splitlines(), start=1):
        kind = _secret_in(text)
        if kind is not None:
            yield Finding(
                source.path,
                line,
                "error",
                "secret",
                f"{kind} stands here in plain text, and Ray copies the file to the head",
                "make it invalid, and use an instance profile, a service account or a secret of Kubernetes",
            )


def _secret_in(line: str) -> str | None:
    for kind, pattern in KEYS.items():
        if pattern.search(line):
            return kind
    if without_passwords(line) != line and not re.search(r"://[^\s:/]*:\$", line):
        return "a password in an address"
    named = NAMED.search(line)
    return "a password or key" if named and not REFERENCE.match(named["value"]) else None
