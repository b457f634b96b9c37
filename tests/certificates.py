"""Certificates for tests, made by the ``openssl`` command: an authority and what it signs."""

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl")


class Authority:
    """Signs certificates for servers and clients.

    Args:
        folder: for the files; there must be none of that name yet.
        name: of the authority.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        run_openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", str(self._key), "-out", str(self.certificate),
            "-days", "2", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def sign(self, name: str, alternative: str = "", *, days: int = 2) -> tuple[Path, Path]:
        """Return a certificate's and its key's file.

        Args:
            name: the common name, and the files'.
            alternative: for whom it is, such as ``IP:127.0.0.1``.
            days: until it expires; negative: it has.
        """
        request, key = self._folder / f"{name}.csr", self._folder / f"{name}.key"
        certificate, extensions = self._folder / f"{name}.pem", self._folder / f"{name}.ext"
        run_openssl(
            "req", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}"
        )
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        run_openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey",
            str(self._key), "-CAcreateserial", "-out", str(certificate), "-days", str(days),
            "-extfile", str(extensions),
        )  # fmt: skip
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def run_openssl(*words: str) -> None:
    """Run an openssl command to its end."""
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {words[0]} failed: {done.stderr}")
