"""apt with a state of its own: packages of another architecture, fetched and not installed.

The machine's sources and keys are used, nothing else of it: its package lists, its dpkg
database and the hooks in its apt configuration are neither read nor changed. No rights
are needed, and apt checks every signature and checksum as always.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from exporter.prove.runtimes.tools import call
from models.errors import UserError

# Of the machine's configuration: how it reaches its sources.
_CONNECTION = re.compile(r'^Acquire::(?:https?|Retries|ForceIPv[46]|Check-[A-Za-z-]+)\b.* ".+";$')
_INSTALL = re.compile(r"^Inst (\S+?)(?::\S+)? \((\S+) ")
_MEND = "see that 'apt-get update' works on this machine, then try again"

# `Sandbox::User`: a private folder cannot be entered by the user `_apt`.
_CONFIGURATION = """\
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{folder}/parts";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Log "{folder}/log";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
{connection}
"""


def missing() -> str | None:
    """Which of apt's programs is not on this machine; None if all are."""
    for program in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(program) is None:
            return program
    return None


class PrivateApt:
    """Packages of one architecture.

    Args:
        folder: for apt's lists and caches; it must exist.
        architecture: as Debian spells it, e.g. 'arm64'.
    """

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder.resolve()
        self._architecture = architecture
        for name in ("parts", "state/lists/partial", "cache/archives/partial", "log"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "status").touch()  # no package is installed
        dumped = call(["apt-config", "dump"], "apt's configuration cannot be read.", _MEND)
        connection = "\n".join(line for line in dumped.splitlines() if _CONNECTION.match(line))
        text = _CONFIGURATION.format(
            folder=self._folder, architecture=architecture, connection=connection
        )
        (self._folder / "apt.conf").write_text(text, encoding="utf-8")
        self._complaint = ""

    def update(self) -> None:
        """Read the sources' package lists.

        A source that has nothing for this architecture makes apt complain; whether that
        matters shows when a package is asked for.
        """
        try:
            self._get("update", what="The package lists cannot be read.")
        except UserError as error:
            self._complaint = error.why

    def closure(self, *names: str) -> dict[str, str]:
        """The packages that these need, themselves included, with their versions.

        Raises:
            UserError: the sources do not have them.
        """
        what = f"apt finds no {', '.join(names)} for {self._architecture}."
        try:
            said = self._get("--simulate", "--no-install-recommends", "install", *names, what=what)
        except UserError as error:
            why = "; ".join(filter(None, (self._complaint, error.why)))
            raise UserError(
                what,
                why,
                f"see that this machine reaches its apt sources and that one of them has packages "
                f"for {self._architecture} (Debian's have; Ubuntu keeps them at ports.ubuntu.com)",
            ) from None
        matches = filter(None, map(_INSTALL.match, said.splitlines()))
        return {match[1]: match[2] for match in matches}

    def unpack(self, packages: dict[str, str], target: Path) -> None:
        """Download these packages and unpack them into `target`; no script of theirs runs.

        Raises:
            UserError: one cannot be downloaded or unpacked.
        """
        what = f"The {self._architecture} packages cannot be downloaded."
        debs = self._folder / f"{target.name}-debs"
        debs.mkdir()
        wanted = [f"{name}={version}" for name, version in packages.items()]
        self._get("download", *wanted, what=what, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            call(["dpkg-deb", "--extract", deb, target], f"{deb.name} cannot be unpacked.", _MEND)

    def _get(self, *arguments: str, what: str, cwd: Path | None = None) -> str:
        configuration = {"APT_CONFIG": str(self._folder / "apt.conf")}
        return call(["apt-get", "--quiet", *arguments], what, _MEND, configuration, cwd)
