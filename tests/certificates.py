"""Certificates for tests, made with the openssl command that Debian's base has."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path


class Authority:
    """A certificate authority of our own, in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._own = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl("req", "-x509", *NEW_KEY, "-subj", f"/CN={name}", "-days", "2",
                 "-keyout", str(self._own.key), "-out", str(self._own.certificate))  # fmt: skip

    @property
    def certificate(self) -> Path:
        return self._own.certificate

    def issue(self, file: str, names: str, days: int = 2) -> Certificate:
        """Issue a certificate for subjectAltName `names`; negative `days` make one that has expired."""
        made = Certificate(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        request, extensions = self._folder / f"{file}.csr", self._folder / f"{file}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        _openssl("req", *NEW_KEY, "-subj", f"/CN={file}", "-keyout", str(made.key), "-out", str(request))
        _openssl("x509", "-req", "-in", str(request), "-CA", str(self._own.certificate), "-CAkey", str(self._own.key),
                 "-CAcreateserial", "-days", str(days), "-extfile", str(extensions),
                 "-out", str(made.certificate))  # fmt: skip
        made.key.chmod(0o644)  # the broker may run as a user of its own
        return made


def _openssl(*arguments: str) -> None:
    command = shutil.which("openssl")
    if command is None:
        raise AssertionError("the openssl command is not installed: apt-get install openssl")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"openssl {arguments[0]}: {done.stderr}")
