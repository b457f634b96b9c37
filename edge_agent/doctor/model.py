"""Are the base models whole, and are their files what their digests say?"""

from pathlib import Path

from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from edge_agent.fetch import COMPLETE, changed_files

#: What is read of a name to show it.
_SHOWN = 12


def check_models(subject: Subject) -> list[Finding]:
    """Read every model of the state folder; gigabytes take some seconds."""
    folders = sorted(one for one in (subject.folder / "models").glob("*") if one.is_dir())
    if not folders:
        return [ok("model", "none fetched yet; the first job brings one")]
    return [_check(folder) for folder in folders]


def _check(folder: Path) -> Finding:
    name = f"model {folder.name[:_SHOWN]}"
    if not (folder / COMPLETE).is_file():
        return warn(name, "is being fetched, or was left half-way", "a job goes on with it.")
    todo = f"delete {folder}; the agent fetches it again."
    try:
        changed = changed_files(folder)
    except OSError as error:
        return fail(name, f"can't be read: {error.strerror}", todo)
    if changed is None:
        return fail(name, "its list of files is not what was fetched", todo)
    if changed:
        return fail(name, f"{', '.join(changed)}: not what was fetched", todo)
    files = [one for one in folder.rglob("*") if one.is_file()]
    size = sum(one.stat().st_size for one in files)
    return ok(name, f"whole, {len(files)} files, {size / 1e6:.0f} MB")
